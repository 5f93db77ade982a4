-- Questions that every student gets wrong under every condition.
select q.task, q.split, q.key, q.text, q.answer as gold, count(*) as conditions,
       group_concat(distinct coalesce(p.answer, 'unread')) as answers
from predictions p join questions q on q.id = p.question_id
where q.task = coalesce(nullif(:task, ''), q.task) and q.split = coalesce(nullif(:split, ''), q.split)
group by q.id having sum(p.correct) = 0
order by conditions desc, q.key
