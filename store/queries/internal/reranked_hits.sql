-- First :depth hits of these questions that the reranker has scored, with both scores; nulls where nothing was found.
select r.question_id, h.passage_id, h.bm25, s.score
from retrievals r
left join hits h on h.retrieval_id = r.id and h.rank <= :depth
left join rerank_scores s on s.retrieval_id = r.id and s.passage_id = h.passage_id and s.reranker_id = :reranker
where r.query = 'question' and r.form = :form and r.index_id = :index
  and r.question_id in (select value from json_each(:questions))
  and (s.score is not null or h.passage_id is null)
order by h.passage_id is null, r.question_id, h.rank
