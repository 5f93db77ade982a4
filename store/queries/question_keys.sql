-- Key, row id and task of every question.
select key, id, task from questions where :task is null or task = :task order by task, id
