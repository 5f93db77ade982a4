-- The first :k passages of a fused, dense or hybrid retriever for each question of a split.
select g.question_id, p.id, p.document, p.part, p.title, p.text
from rankings g
join questions q on q.id = g.question_id
join ranked x on x.ranking_id = g.id and x.rank <= :k
join passages p on p.id = x.passage_id
where q.task = :task and q.split = :split and g.index_id = :index and g.retriever_id = :retriever
order by g.question_id, x.rank
