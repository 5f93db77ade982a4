-- Deletes what is known of a task's questions in training questions and passages.
delete from overlap_checks where question_id in (select id from questions where task = :task)
