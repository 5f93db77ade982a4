-- Rationales that people judged, first those whose conclusion people disagree with.
select v.task, v.split, v.key, v.teacher, v.sample, j.verdict as judged, j.author, j.note, v.verdict, v.gold,
       v.conclusion, v.verified, j.created, v.text
from judgements j
join rationale_verdicts v on v.id = j.rationale_id
where v.task = coalesce(nullif(:task, ''), v.task) and j.verdict = coalesce(nullif(:verdict, ''), j.verdict)
order by (j.verdict = 'good') = (v.verdict = 'accepted'), v.task, v.split, v.key, v.teacher, v.sample
