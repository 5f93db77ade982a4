-- Accuracy of every condition with and without the questions that the query contamination lists.
with found as (select distinct question_id from overlaps where share >= coalesce(nullif(:share, ''), 0))
select e.id as evaluation_id, e.task, e.split, s.size, s.method, s.seed, e.retriever, e.k,
       count(*) as questions, round(avg(p.correct), 4) as accuracy,
       sum(f.question_id is null) as clean,
       round(avg(case when f.question_id is null then p.correct end), 4) as clean_accuracy,
       round(avg(case when f.question_id is not null then p.correct end), 4) as overlapping_accuracy
from predictions p
join evaluations e on e.id = p.evaluation_id
join students s on s.id = e.student_id
left join found f on f.question_id = p.question_id
where e.task = coalesce(nullif(:task, ''), e.task) and e.split = coalesce(nullif(:split, ''), e.split)
group by e.id
order by e.task, e.split, s.size, s.method, s.seed, e.retriever
