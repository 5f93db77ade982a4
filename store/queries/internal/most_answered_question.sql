-- The question that the most conditions have answered.
select q.task, q.split, q.id as question
from questions q
left join predictions p on p.question_id = q.id
group by q.id
order by count(p.id) desc, q.id
limit 1
