-- Ranks by a reranker of the passages of a split's first :limit questions.
select r.question_id, s.passage_id, s.rank
from retrievals r join rerank_scores s on s.retrieval_id = r.id
where s.reranker_id = :reranker and r.form = :form and r.index_id = :index
  and r.question_id in (select id from questions where task = :task and split = :split order by id limit :limit)
