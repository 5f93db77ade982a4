-- The samples of these questions that a teacher has given, or has failed to give after the failed reply :failed.
select question_id, sample from rationales
where teacher_id = :teacher and question_id in (select value from json_each(:questions))
union
select question_id, sample from failed_replies
where teacher_id = :teacher and question_id in (select value from json_each(:questions)) and id > :failed
