-- The passages that students read most often, with the share of right answers.
with used as (
    select j.value as id, count(*) as readings, count(distinct x.question_id) as questions,
           round(avg(x.correct), 4) as accuracy
    from predictions x
    join evaluations e on e.id = x.evaluation_id
    join json_each(x.passages) j
    where e.task = coalesce(nullif(:task, ''), e.task) and e.split = coalesce(nullif(:split, ''), e.split)
    group by j.value order by readings desc, j.value limit coalesce(nullif(:limit, ''), 50)
)
select p.id, p.title, u.readings, u.questions, u.accuracy,
       (select count(*) from hits h where h.passage_id = p.id) as lists
from used u join passages p on p.id = u.id
order by u.readings desc, p.id
