-- Questions that every condition gets wrong.
select q.task, q.split, q.key, q.text, q.answer as gold, count(*) as conditions
from predictions p join questions q on q.id = p.question_id
group by q.id having sum(p.correct) = 0
order by conditions desc, q.key
