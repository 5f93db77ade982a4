-- Deletes the students of a task.
delete from students where task = :task
