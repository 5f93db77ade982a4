-- Every condition of a split with all that decides its answers. Each column counts when runs are told apart. The seed is
-- that of the reranker where the student has none.
select e.id as evaluation_id, s.size, s.method,
       coalesce(json_extract(s.settings, '$.seed'), json_extract(r.settings, '$.seed'), s.seed) as seed,
       e.retriever, e.k, e.kappa, e.form as query, e.max_df,
       e.teacher_id as "silver.teacher", e.accept as "silver.accept", s.examples,
       r.questions as "reranker.questions", s.id as student_id, r.id as reranker_id, t.id as retriever_id,
       json_extract(r.settings, '$.seed') as reranker_seed, e.decoding, s.settings as training,
       r.settings as reranker, t.settings as mixing, s.data_sha256 as data, json_extract(s.recipe, '$.data.teacher') as teacher,
       json_extract(s.recipe, '$.data.fraction') as fraction, json_extract(s.recipe, '$.data.accept') as accept,
       json_extract(r.recipe, '$.data.fraction') as "reranker.fraction", e.index_id as "index", i.created as documents,
       s.base_sha256 as base, r.data_sha256 as "reranker.data", r.base_sha256 as "reranker.base",
       t.base_sha256 as "mix.base"
from evaluations e
join students s on s.id = e.student_id
left join indexes i on i.id = e.index_id
left join retrievers t on t.id = e.retriever_id
left join rerankers r on r.id = coalesce(e.reranker_id, t.reranker_id)
where e.task = :task and e.split = :split
  and exists (select 1 from predictions p where p.evaluation_id = e.id)
order by s.size, s.method, seed, e.retriever, e.k, e.id
