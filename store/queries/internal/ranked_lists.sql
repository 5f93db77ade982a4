-- First :depth passages of these questions in a retriever's order.
select g.question_id, x.passage_id, x.score
from rankings g
join ranked x on x.ranking_id = g.id and x.rank <= :depth
where g.retriever_id = :retriever and g.index_id = :index
  and g.question_id in (select value from json_each(:questions))
order by g.question_id, x.rank
