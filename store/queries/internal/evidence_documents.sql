-- Documents that a task's questions name as evidence, each once.
select distinct e.document
from evidence e
join questions q on q.id = e.question_id
where q.task = :task
order by e.document
