-- Passages of the documents that a task's training questions name as evidence.
select q.key, p.id as passage_id
from evidence e
join questions q on q.id = e.question_id
join passages p on p.document = e.document
where q.task = :task and q.split = 'train'
