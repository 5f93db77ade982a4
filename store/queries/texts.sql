-- How each condition's texts ended: with an answer that is read, at the token budget, or naming no option; an option is then
-- forced, a short answer is none. Then texts without a reason before their answer, and cut prompts.
select e.id as evaluation_id, s.size, s.method, s.seed, e.retriever, e.k, count(*) as texts,
       sum(x.forced is null and x.answer is not null) as read,
       sum(x.forced is 'budget' and q.options <> '[]') as forced_at_budget,
       sum(x.forced is 'unread') as forced_unread,
       sum(trim(x.text, ' ' || char(10)) = '' or ltrim(x.text, ' ' || char(10)) like 'Answer:%') as without_reason, sum(x.cut) as cut_prompts
from samples x
join predictions p on p.id = x.prediction_id
join questions q on q.id = p.question_id
join evaluations e on e.id = p.evaluation_id
join students s on s.id = e.student_id
where e.task = coalesce(nullif(:task, ''), e.task) and e.split = coalesce(nullif(:split, ''), e.split)
group by e.id
order by s.size, s.method, s.seed, e.retriever, e.id
