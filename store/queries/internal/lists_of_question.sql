-- Every list of passages of a question: found with its text, with each rationale, ordered by each retriever.
select i.created, r.index_id, r.query as kind, r.depth, r.rationale_id, null as reranker_id, null as retriever_id,
       h.rank, h.passage_id, h.bm25, null as score, h.question_rank
from retrievals r
join indexes i on i.id = r.index_id
join hits h on h.retrieval_id = r.id
where r.question_id = :question
union all
select i.created, r.index_id, 'reranker', r.depth, null, s.reranker_id, null,
       s.rank, s.passage_id, h.bm25, s.score, h.question_rank
from retrievals r
join indexes i on i.id = r.index_id
cross join rerankers k -- first, since the key of its scores begins with it
cross join rerank_scores s on s.reranker_id = k.id and s.retrieval_id = r.id
left join hits h on h.retrieval_id = r.id and h.passage_id = s.passage_id
where r.question_id = :question
union all
select i.created, g.index_id, t.kind, g.depth, null, t.reranker_id, g.retriever_id,
       x.rank, x.passage_id, h.bm25, x.score, h.rank
from rankings g
join retrievers t on t.id = g.retriever_id
join indexes i on i.id = g.index_id
join ranked x on x.ranking_id = g.id
left join retrievals r on r.question_id = g.question_id and r.index_id = g.index_id and r.query = 'question'
left join hits h on h.retrieval_id = r.id and h.passage_id = x.passage_id
where g.question_id = :question
order by 1 desc, 2, 3, 5, 6, 7, 8
