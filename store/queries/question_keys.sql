-- Key, row id and task of every question, or of one task's.
select key, id, task from questions where :task is null or task = :task order by task, id
