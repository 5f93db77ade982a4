-- First :depth passages of these questions by BM25.
select r.question_id, h.passage_id, h.bm25 as score
from retrievals r
join hits h on h.retrieval_id = r.id and h.rank <= :depth
where r.query = 'question' and r.form = :form and r.index_id = :index
  and r.question_id in (select value from json_each(:questions))
order by r.question_id, h.rank
