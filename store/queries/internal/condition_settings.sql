-- Every condition of a split with all settings that decide its answers.
select e.id as evaluation_id, s.size, s.method, s.seed, e.retriever, e.k, e.decoding, e.index_id, e.reranker_id,
       r.settings as reranker, s.id as student_id, s.base_sha256 as base, s.settings as training, s.examples,
       s.data_sha256 as data
from evaluations e
join students s on s.id = e.student_id
left join rerankers r on r.id = e.reranker_id
where e.task = :task and e.split = :split
  and exists (select 1 from predictions p where p.evaluation_id = e.id)
order by s.size, s.method, s.seed, e.retriever, e.k, e.id
