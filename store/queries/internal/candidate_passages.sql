-- Passages that each retriever could choose from: a question's hits, those that a reranker or another retriever ordered,
-- and those of the rationale that each condition of the retriever silver reads. `bm25_rank` is the rank in the question's
-- own list.
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
select r.question_id, r.index_id, 'silver ' || r.evaluation_id, r.rationale_id, h.passage_id, h.question_rank
from (
    select e.id as evaluation_id, r.id, r.question_id, r.index_id, r.rationale_id,
           row_number() over (partition by e.id, r.question_id order by a.rationale_id is null, t.sample, t.id) as place
    from evaluations e
    join retrievals r on r.index_id = e.index_id and r.rationale_form = e.form and r.max_df = e.max_df
    join questions q on q.id = r.question_id and q.task = e.task and q.split = e.split
    join rationales t on t.id = r.rationale_id and (e.teacher_id is null or t.teacher_id = e.teacher_id)
    left join accepted_rationales a on a.rationale_id = t.id and a.accept = e.accept
    where e.task = :task and e.split = :split and e.retriever = 'silver' and (:question is null or q.id = :question)
) r
join hits h on h.retrieval_id = r.id
where r.place = 1
