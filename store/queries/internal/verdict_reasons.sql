-- How many rationales of a task have each verdict and why, commonest first, each with the first as an example.
select verdict, count(*) as rationales, min(id) as id, key, sample, text,
       case when verdict = 'accepted' then ''
            when conclusion is not null and gold is null then 'the right answer of the question is not known'
            when conclusion is not null then 'it concludes on another answer than the right one'
            when rtrim(text, ' *_`"'')]}' || char(9, 10, 13)) not like '%.' and length(text) > 80 then 'no answer can be read at its end, which may be cut'
            else 'no answer, or more than one, is named where it concludes' end as why
from rationale_verdicts
where task = :task
group by verdict, why
order by rationales desc, verdict, why
