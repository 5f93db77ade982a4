-- The samples that a teacher has given of these questions.
select question_id, sample from rationales
where teacher_id = :teacher and question_id in (select value from json_each(:questions))
