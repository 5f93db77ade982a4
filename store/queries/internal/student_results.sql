-- What the student :student answered under each condition: questions, right answers, F1 of short ones and decoding.
select e.id as evaluation_id, e.split, e.retriever, e.k, e.decoding, count(*) as questions, sum(p.correct) as correct,
       avg(p.f1) as f1
from evaluations e
join predictions p on p.evaluation_id = e.id
where e.student_id = :student
group by e.id
order by e.split, e.id
