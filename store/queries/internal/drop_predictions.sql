-- Drop what the condition with this hash answered to these questions.
delete from predictions
where evaluation_id = (select id from evaluations where hash = :hash)
  and question_id in (select value from json_each(:questions))
