-- Deletes what was found with a task's rationales.
delete from retrievals where query = 'rationale' and question_id in (select id from questions where task = :task)
