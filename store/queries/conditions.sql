-- Every condition with its id, the number of questions that it answered and the number of right answers.
select e.id as evaluation_id, e.task, e.split, s.size, s.method, s.seed, e.retriever, e.k,
       count(p.id) as questions, coalesce(sum(p.correct), 0) as correct, round(avg(p.correct), 4) as accuracy
from evaluations e
join students s on s.id = e.student_id
left join predictions p on p.evaluation_id = e.id
group by e.id
order by e.task, e.split, s.size, s.method, s.seed, e.retriever
