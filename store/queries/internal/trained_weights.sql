-- The conditions of a task by their hash, each with its student and the hash of what training made of it: '' without any.
select e.id as evaluation_id, e.hash, s.size, s.method, s.id as student_id, s.sha256
from evaluations e
join students s on s.id = e.student_id
where e.task = :task
