-- The first :k passages by the reranker, for each question of a split.
select r.question_id, p.id, p.document, p.part, p.title, p.text
from retrievals r
join questions q on q.id = r.question_id
join rerank_scores s on s.retrieval_id = r.id and s.reranker_id = :reranker and s.rank <= :k
join passages p on p.id = s.passage_id
where q.task = :task and q.split = :split and r.index_id = :index and r.query = 'question'
order by r.question_id, s.rank
