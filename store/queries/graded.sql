-- Every prediction with what made it and whether it is right: what reports and comparisons are computed from.
select s.size, s.method, s.seed, e.retriever, e.k, q.kind, q.key, json_array_length(q.options) as options,
       q.answer as gold, p.answer, p.correct, p.votes, p.milliseconds, p.flops
from predictions p
join evaluations e on e.id = p.evaluation_id
join students s on s.id = e.student_id
join questions q on q.id = p.question_id
where e.task = :task and e.split = :split
order by s.size, s.method, s.seed, e.retriever, e.k, q.id
