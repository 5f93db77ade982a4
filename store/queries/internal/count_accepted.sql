-- How many rationales the first :limit answered questions of a split have, how many of them are accepted under :accept,
-- how many lack the reader's verdict that :accept asks for, and how many of the questions have no rationale.
with asked as (
    select id from questions where task = :task and split = :split and answer is not null
      and (:drawn is null or id in (select value from json_each(:drawn)))
    order by id limit :limit
)
select count(*) as rationales,
       coalesce(sum(exists (select 1 from accepted_rationales where rationale_id = r.id and accept = :accept)), 0) as accepted,
       coalesce(sum((:accept = 'verified' or :accept = 'both' and r.accepted)
                    and not exists (select 1 from verifications where rationale_id = r.id)), 0) as unverified,
       (select count(*) from asked) - count(distinct r.question_id) as unexplained
from rationales r
where r.question_id in (select id from asked)
  and (:teacher is null or r.teacher_id = :teacher)
