-- Rationales with their verdicts, the right answers and what people said of them.
select id, task, split, key, teacher, sample, verdict, gold, conclusion, verified, good, bad, text
from rationale_verdicts
where task = coalesce(nullif(:task, ''), task) and key = coalesce(nullif(:key, ''), key)
  and teacher = coalesce(nullif(:teacher, ''), teacher) and verdict = coalesce(nullif(:verdict, ''), verdict)
  and (nullif(:judged, '') is null or good + bad > 0)
order by question_id, teacher, sample
limit coalesce(nullif(:limit, ''), 100)
