-- Teachers who explained training questions of a task, newest first.
select distinct t.id, t.name, t.created
from teachers t
join rationales r on r.teacher_id = t.id
join questions q on q.id = r.question_id
where q.task = :task and q.split = 'train'
order by t.created desc
