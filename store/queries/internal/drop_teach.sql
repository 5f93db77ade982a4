-- Deletes the rationales of a task.
delete from rationales where question_id in (select id from questions where task = :task)
