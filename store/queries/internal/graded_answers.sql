-- Every prediction of a split with its condition and grade, as reports and comparisons use it. The seed is that of the
-- reranker where the student has none.
select e.id as evaluation_id, s.size, s.method,
       coalesce(json_extract(s.settings, '$.seed'), json_extract(r.settings, '$.seed'), s.seed) as seed, e.retriever,
       e.k, q.kind, q.key,
       json_array_length(q.options) as options, q.answer as gold, p.answer, p.correct, p.f1, p.votes,
       t.prompt_tokens, t.completion_tokens,
       case when q.options <> '[]' then t.forced end as forced, p.milliseconds, p.flops
from predictions p
join evaluations e on e.id = p.evaluation_id
join students s on s.id = e.student_id
left join retrievers x on x.id = e.retriever_id
left join rerankers r on r.id = coalesce(e.reranker_id, x.reranker_id)
join questions q on q.id = p.question_id
left join (
    select prediction_id, sum(prompt_tokens) as prompt_tokens, sum(completion_tokens) as completion_tokens,
           avg(forced is not null) as forced
    from samples group by prediction_id
) t on t.prediction_id = p.id
where e.task = :task and e.split = :split
order by s.size, s.method, seed, e.retriever, e.k, q.id, e.id
