-- Share of questions with a passage that people judged good among the first k, for each retriever.
with first as (
    select r.question_id, r.index_id, 'bm25' as retriever, min(h.rank) as rank
    from judgements j
    join retrievals r on r.question_id = j.question_id and r.query = 'question'
    left join hits h on h.passage_id = j.passage_id and h.retrieval_id = r.id
    where j.passage_id is not null and j.verdict = 'good'
    group by r.id
    union all
    select r.question_id, r.index_id, k.id, min(s.rank)
    from judgements j
    join retrievals r on r.question_id = j.question_id
    join rerankers k on exists (select 1 from rerank_scores where reranker_id = k.id and retrieval_id = r.id)
    left join rerank_scores s on s.passage_id = j.passage_id and s.reranker_id = k.id and s.retrieval_id = r.id
    where j.passage_id is not null and j.verdict = 'good'
    group by k.id, r.id
)
select q.task, q.split, f.index_id, f.retriever, count(*) as questions,
       round(avg(coalesce(f.rank <= 1, 0)), 4) as hits_at_1,
       round(avg(coalesce(f.rank <= 3, 0)), 4) as hits_at_3,
       round(avg(coalesce(f.rank <= 5, 0)), 4) as hits_at_5,
       round(avg(coalesce(f.rank <= 10, 0)), 4) as hits_at_10,
       round(avg(coalesce(f.rank <= 100, 0)), 4) as hits_at_100
from first f join questions q on q.id = f.question_id
where q.task = coalesce(nullif(:task, ''), q.task) and q.split = coalesce(nullif(:split, ''), q.split)
group by q.task, q.split, f.index_id, f.retriever
order by q.task, q.split, f.index_id, f.retriever
