-- Ranks by BM25 of the first :kappa passages of a split's first :limit questions.
select r.question_id, h.passage_id, h.rank
from retrievals r join hits h on h.retrieval_id = r.id and h.rank <= :kappa
where r.query = 'question' and r.form = :form and r.index_id = :index
  and r.question_id in (select id from questions where task = :task and split = :split order by id limit :limit)
