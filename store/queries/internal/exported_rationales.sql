-- Rationales of a task, of one teacher or of all, in the order of the exported file.
select q.key, r.sample, r.text, t.id as teacher_id, t.model, t.sampling
from rationales r
join questions q on q.id = r.question_id
join teachers t on t.id = r.teacher_id
where q.task = :task and (:teacher is null or t.name = :teacher)
order by q.key, t.model, t.id, r.sample
