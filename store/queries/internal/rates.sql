-- Milliseconds that a student of this task took: for a question and epoch of its training, and for an answer.
select (
    select sum(s.milliseconds) / sum(s.examples * json_extract(s.settings, '$.epochs'))
    from students s where s.task = :task and s.milliseconds > 0 and s.examples > 0
      and json_extract(s.settings, '$.epochs') > 0
) as training,
(
    select avg(p.milliseconds) from predictions p join evaluations e on e.id = p.evaluation_id
    join students s on s.id = e.student_id where e.task = :task and s.base <> ''
) as answering
