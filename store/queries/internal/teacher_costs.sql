-- What each teacher was paid for the rationales of a task, by split.
select t.name as teacher, q.split, count(*) as rationales, sum(r.prompt_tokens) as prompt_tokens,
       sum(r.completion_tokens) as completion_tokens, sum(r.cost) as cost
from rationales r
join questions q on q.id = r.question_id
join teachers t on t.id = r.teacher_id
where q.task = :task
group by t.id, q.split
order by t.name, q.split
