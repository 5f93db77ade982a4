-- Rationales that contain every word of a text, best first.
select v.id, v.task, v.split, v.key, v.teacher, v.sample, v.verdict, v.gold, v.conclusion, v.verified, v.good, v.bad,
       v.text
from rationales_fts f
join rationale_verdicts v on v.id = f.rowid
-- Each word stands in quotes, since prose is not the syntax of the search; printf ends a text at its first NUL.
where rationales_fts match '"' || replace(replace(printf('%s', :text), '"', '""'), ' ', '" "') || '"'
  and v.task = coalesce(nullif(:task, ''), v.task) and v.key = coalesce(nullif(:key, ''), v.key)
  and v.teacher = coalesce(nullif(:teacher, ''), v.teacher)
  and v.verdict = coalesce(nullif(:verdict, ''), v.verdict)
  and (nullif(:judged, '') is null or v.good + v.bad > 0)
order by f.rank
limit coalesce(nullif(:limit, ''), 50)
