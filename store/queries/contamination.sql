-- Held-out questions whose text stands in a training question or in a passage, with the share of it that does.
select q.task, q.split, q.key, o.kind, round(o.share, 4) as share,
       case when o.passage_id is null then 'training question' else 'passage' end as inside,
       coalesce(t.key, p.id) as other, q.text, coalesce(t.text, p.title || ': ' || p.text) as other_text
from overlaps o
join questions q on q.id = o.question_id
left join questions t on t.id = o.other_question_id
left join passages p on p.id = o.passage_id
where q.task = coalesce(nullif(:task, ''), q.task) and q.split = coalesce(nullif(:split, ''), q.split)
order by q.task, q.split, o.share desc, q.key, other
