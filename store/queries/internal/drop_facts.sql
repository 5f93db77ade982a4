-- Delete the passages of the facts of some questions: they are looked for again.
delete from fact_passages where question_id in (select value from json_each(:ids))
