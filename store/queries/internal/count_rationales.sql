-- How many rationales a task has.
select count(*) from rationales where question_id in (select id from questions where task = :task)
