-- Passages that each retriever could choose from: a question's hits, those that a reranker or another retriever ordered,
-- and those of the question's first rationale, which the retriever silver reads. `bm25_rank` is the rank in the
-- question's own list.
select r.question_id, r.index_id, 'question' as list, null as rationale_id, h.passage_id, h.rank as bm25_rank
from retrievals r
join questions q on q.id = r.question_id
join hits h on h.retrieval_id = r.id
where q.task = :task and q.split = :split and (:question is null or q.id = :question) and r.query = 'question'
union all
select r.question_id, r.index_id, x.reranker_id, null, x.passage_id, h.rank
from retrievals r
join questions q on q.id = r.question_id
cross join rerankers k -- first, since the key of its scores begins with it
cross join rerank_scores x on x.reranker_id = k.id and x.retrieval_id = r.id
left join hits h on h.retrieval_id = r.id and h.passage_id = x.passage_id
where q.task = :task and q.split = :split and (:question is null or q.id = :question) and r.query = 'question'
union all
select g.question_id, g.index_id, g.retriever_id, null, x.passage_id, null
from rankings g
join questions q on q.id = g.question_id
join ranked x on x.ranking_id = g.id
where q.task = :task and q.split = :split and (:question is null or q.id = :question)
union all
select r.question_id, r.index_id, 'rationale', r.rationale_id, h.passage_id, h.question_rank
from retrievals r
join questions q on q.id = r.question_id
join hits h on h.retrieval_id = r.id
where q.task = :task and q.split = :split and (:question is null or q.id = :question) and r.query = 'rationale'
  and r.rationale_id = (
    select min(m.rationale_id) from retrievals m
    where m.question_id = r.question_id and m.index_id = r.index_id and m.query = 'rationale'
  )
  and exists (select 1 from evaluations e where e.task = :task and e.split = :split and e.retriever = 'silver')
