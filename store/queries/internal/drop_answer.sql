-- Deletes the evaluations of a task with their answers.
delete from evaluations where task = :task
