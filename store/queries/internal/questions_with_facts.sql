-- Those of some questions that name no evidence but have facts.
select id, facts from questions
where id in (select value from json_each(:ids)) and facts <> '[]'
  and not exists (select 1 from evidence where question_id = questions.id)
