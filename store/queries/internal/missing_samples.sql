-- Samples that a teacher has not given yet, of the first questions of a split whose answer is known.
-- First samples of all questions come before second ones: a run that stops early has reached the most questions.
with recursive numbers (sample) as (
    select 0 union all select sample + 1 from numbers where sample + 1 < :samples
),
wanted as (
    select id from questions
    where task = :task and split = :split and answer is not null
    order by id limit :limit
)
select w.id as question_id, n.sample
from wanted w
cross join numbers n
left join rationales r on r.question_id = w.id and r.teacher_id = :teacher and r.sample = n.sample
where r.id is null
order by n.sample, w.id
