-- The splits that have answers, that of the newest condition first.
select e.task, e.split, max(e.id) as newest
from evaluations e
where exists (select 1 from predictions p where p.evaluation_id = e.id)
group by e.task, e.split
order by newest desc
