-- Held-out questions whose text stands in a training question or in a passage, with the share of it that does.
-- Where questions were not looked for, a row says how many.
select q.task, q.split, q.key, o.kind, round(o.share, 4) as share,
       case when o.passage_id is null then 'training question' else 'passage' end as inside,
       coalesce(t.key, p.id) as other, q.text, coalesce(t.text, p.title || ': ' || p.text) as other_text
from overlaps o
join questions q on q.id = o.question_id
left join questions t on t.id = o.other_question_id
left join passages p on p.id = o.passage_id
where q.task = coalesce(nullif(:task, ''), q.task) and q.split = coalesce(nullif(:split, ''), q.split)
union all
select q.task, q.split, null, 'not looked for', null, null, null,
       count(*) || ' questions; look for them with: kard screen ' || q.task || ' --split ' || q.split, null
from questions q
where q.split <> 'train' and q.task = coalesce(nullif(:task, ''), q.task)
  and q.split = coalesce(nullif(:split, ''), q.split)
  and not exists (select 1 from overlap_checks where question_id = q.id)
group by q.task, q.split
order by 1, 2, 5 desc, 3, 7
