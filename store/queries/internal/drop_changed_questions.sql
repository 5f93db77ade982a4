-- Questions of a part of a step that the store has not, or has with another text by now; run in the part's own file.
delete from questions
where not exists (
    select 1 from store.questions s
    where s.task = questions.task and s.key = questions.key and s.hash = questions.hash)
