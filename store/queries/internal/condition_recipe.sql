-- All that decides the answers of a condition.
select e.task, e.split, e.retriever, e.k, e.kappa, e.form as query, e.max_df, e.teacher_id as teacher, e.accept, e.index_id as "index", e.decoding, s.recipe as student,
       coalesce(r.recipe, m.recipe) as reranker, t.base as mix_base, t.base_sha256 as mix_sha256, t.settings as mixing
from evaluations e
join students s on s.id = e.student_id
left join rerankers r on r.id = e.reranker_id
left join retrievers t on t.id = e.retriever_id
left join rerankers m on m.id = t.reranker_id
where e.id = :evaluation
