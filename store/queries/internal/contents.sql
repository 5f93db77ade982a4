-- What there is of each split: questions, those that have an accepted rationale, and rationales.
select q.task, q.split, count(distinct q.id) as questions, count(r.id) as rationales,
       count(distinct r.question_id) filter (where r.accepted) as explained
from questions q
left join rationales r on r.question_id = q.id
group by q.task, q.split
order by q.task, q.split = 'train' desc, q.split
