-- Every two conditions on the same questions: both right, one right, both wrong.
select a.task, a.split, a.id as one, b.id as other,
       s.size || ' ' || s.method || ' ' || a.retriever as one_is,
       t.size || ' ' || t.method || ' ' || b.retriever as other_is,
       count(*) as questions, sum(p.correct and r.correct) as both, sum(p.correct and not r.correct) as one_alone,
       sum(r.correct and not p.correct) as other_alone, sum(not p.correct and not r.correct) as neither
from evaluations a
join evaluations b on b.task = a.task and b.split = a.split and b.id > a.id
join students s on s.id = a.student_id
join students t on t.id = b.student_id
join predictions p on p.evaluation_id = a.id
join predictions r on r.evaluation_id = b.id and r.question_id = p.question_id
where a.task = coalesce(nullif(:task, ''), a.task) and a.split = coalesce(nullif(:split, ''), a.split)
group by a.id, b.id
order by a.task, a.split, a.id, b.id
