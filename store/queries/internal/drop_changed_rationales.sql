-- Rationales of a part of a step that the store has not, or has with another text by now; run in the part's own file.
delete from rationales
where not exists (
    select 1 from store.rationales s
    join store.questions t on t.id = s.question_id
    join questions q on q.id = rationales.question_id and q.task = t.task and q.key = t.key
    where s.teacher_id = rationales.teacher_id and s.sample = rationales.sample and s.text = rationales.text)
