-- Questions with the number of conditions that got each right, answered ones first; a null parameter filters nothing.
select q.id as question_id, q.task, q.split, q.kind, q.key, q.text, q.answer as gold,
       (select count(*) from predictions p where p.question_id = q.id) as conditions,
       (select sum(p.correct) from predictions p where p.question_id = q.id) as correct
from questions q
where (:task is null or q.task = :task)
  and (:split is null or q.split = :split)
  and (:text is null or instr(lower(q.text), lower(:text)) or q.key = :text)
  and (:wrong_in is null or exists (
    select 1 from predictions p where p.question_id = q.id and p.evaluation_id = :wrong_in and not p.correct
  ))
order by conditions > 0 desc, q.id limit coalesce(:limit, 100) offset coalesce(:offset, 0)
