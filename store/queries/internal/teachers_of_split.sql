-- Teachers who explained questions of a task's split, newest first.
select distinct t.id, t.name, t.created
from teachers t
join rationales r on r.teacher_id = t.id
join questions q on q.id = r.question_id
where q.task = :task and q.split = :split
order by t.created desc
