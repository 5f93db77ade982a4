-- Rationales that a verifier has not read yet, with their questions; first samples precede second ones.
with wanted as (
    select id, key, text, options, answer from questions
    where task = :task and split = :split and answer is not null
      and (:drawn is null or id in (select value from json_each(:drawn)))
    order by id limit :limit
)
select r.id as rationale_id, r.text as rationale, w.text as question, w.options, w.answer
from rationales r
join wanted w on w.id = r.question_id
join teachers t on t.id = r.teacher_id
left join verifications v on v.rationale_id = r.id and v.verifier_id = :verifier
where v.rationale_id is null and t.name = coalesce(nullif(:teacher, ''), t.name)
order by r.sample, r.id
