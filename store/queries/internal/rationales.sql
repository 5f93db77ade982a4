-- Rationales of a split's questions, and whether students and rerankers may have been trained on them: some rule
-- of acceptance lets them.
select r.question_id, r.id, t.name as teacher, r.sample, r.text, r.conclusion, r.accepted,
       q.split = 'train' and exists (select 1 from accepted_rationales where rationale_id = r.id and accept <> 'none') as trained
from rationales r
join questions q on q.id = r.question_id
join teachers t on t.id = r.teacher_id
where q.task = :task and q.split = :split and (:question is null or q.id = :question)
order by r.question_id, r.id
