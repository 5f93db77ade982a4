-- Every rationale of a task with its verdict, by question, teacher and sample.
select id, question_id, split, teacher, sample, verdict, verified, good, bad, text
from rationale_verdicts
where task = :task and split = coalesce(nullif(:split, ''), split)
order by question_id, teacher, sample
