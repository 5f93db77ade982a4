-- Retrievals of this form of a set's questions whose hits the reranker has not all scored.
-- Hits and scores are counted, since a retrieval that was made deeper is to be scored again.
select r.id, q.text, q.options
from retrievals r
join questions q on q.id = r.question_id
where r.query = 'question' and r.form = :form and r.index_id = :index and q.task = :task
  and q.id in (
      select id from questions where task = :task and (:split is null or split = :split) order by id limit :limit)
  and (:drawn is null or q.id in (select value from json_each(:drawn)))
  and (select count(*) from hits h where h.retrieval_id = r.id)
   <> (select count(*) from rerank_scores s where s.reranker_id = :reranker and s.retrieval_id = r.id)
order by q.id
