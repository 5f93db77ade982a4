-- Ranks by a reranker of the first :kappa passages by BM25 of a split's first :limit questions.
select r.question_id, s.passage_id, row_number() over (partition by r.id order by s.rank) as rank
from retrievals r
join rerank_scores s on s.retrieval_id = r.id and s.reranker_id = :reranker
join hits h on h.retrieval_id = r.id and h.passage_id = s.passage_id and h.rank <= :kappa
where r.query = 'question' and r.form = :form and r.index_id = :index
  and r.question_id in (select id from questions where task = :task and split = :split order by id limit :limit)
