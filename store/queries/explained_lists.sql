-- Every list of passages that was found for a question: with its own words, with each rationale, by each reranker.
select i.created, r.index_id, r.query as kind, r.depth, r.rationale_id, null as reranker_id,
       h.rank, h.passage_id, h.bm25, null as score, h.question_rank
from retrievals r
join indexes i on i.id = r.index_id
join hits h on h.retrieval_id = r.id
where r.question_id = :question
union all
select i.created, r.index_id, 'reranker', r.depth, null, s.reranker_id,
       s.rank, s.passage_id, h.bm25, s.score, h.question_rank
from retrievals r
join indexes i on i.id = r.index_id
join rerank_scores s on s.retrieval_id = r.id
left join hits h on h.retrieval_id = r.id and h.passage_id = s.passage_id
where r.question_id = :question
order by 1 desc, 2, 3, 5, 6, 7
