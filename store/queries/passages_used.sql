-- The passages that students read most often, and how often the answer was right.
select p.id, p.title, count(*) as readings, round(avg(x.correct), 3) as accuracy
from predictions x, json_each(x.passages) j
join passages p on p.id = j.value
group by p.id order by readings desc limit 50
