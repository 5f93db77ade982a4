-- Deletes what was found with a task's questions.
delete from retrievals where query = 'question' and question_id in (select id from questions where task = :task)
