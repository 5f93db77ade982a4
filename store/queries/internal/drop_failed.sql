-- Deletes the replies that are no rationale to a task's questions.
delete from failed_replies where question_id in (select id from questions where task = :task)
