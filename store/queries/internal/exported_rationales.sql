-- Rationales of a task, of all its teachers or of one, in the order of a file.
select q.key, r.sample, r.text, t.id as teacher_id, t.model, t.sampling
from rationales r
join questions q on q.id = r.question_id
join teachers t on t.id = r.teacher_id
where q.task = :task and (:teacher is null or t.name = :teacher)
order by q.key, t.model, t.id, r.sample
