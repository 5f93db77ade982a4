-- Rationales that a teacher still owes for the first :limit questions of a split, as question and number of sample.
-- First samples of all questions precede second ones, so that a run that stops early has reached most questions.
with recursive numbers (sample) as (
    select 0 union all select sample + 1 from numbers where sample + 1 < :samples
),
wanted as (
    select id from questions
    where task = :task and split = :split and answer is not null
      and (:drawn is null or id in (select value from json_each(:drawn)))
    order by id limit :limit
)
select w.id as question_id, n.sample
from wanted w
cross join numbers n
left join rationales r on r.question_id = w.id and r.teacher_id = :teacher and r.sample = n.sample
where r.id is null
  and (:retry or not exists (
      select 1 from failed_replies f
      where f.question_id = w.id and f.teacher_id = :teacher and f.sample = n.sample
  ))
order by n.sample, w.id
