-- Milliseconds that students of a task took, by method: for a question and epoch of training, and for an answer.
select s.method,
       sum(s.milliseconds) / sum(json_extract(s.recipe, '$.data.questions') * json_extract(s.settings, '$.epochs')) as training,
       (select avg(p.milliseconds) from predictions p join evaluations e on e.id = p.evaluation_id
        join students o on o.id = e.student_id where o.task = s.task and o.method = s.method) as answering
from students s
where s.task = :task and s.milliseconds > 0
group by s.method
