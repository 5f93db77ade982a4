-- Deletes the rerankers of a task.
delete from rerankers where task = :task
