-- Questions that contain every word of a text, best first, with how many conditions answered them right.
select q.id, q.task, q.split, q.key, q.text, q.answer as gold,
       (select count(*) from predictions p where p.question_id = q.id) as conditions,
       (select sum(p.correct) from predictions p where p.question_id = q.id) as correct
from questions_fts f
join questions q on q.id = f.rowid
where questions_fts match '"' || replace(replace(printf('%s', :text), '"', '""'), ' ', '" "') || '"'
  and q.task = coalesce(nullif(:task, ''), q.task) and q.split = coalesce(nullif(:split, ''), q.split)
order by f.rank
limit coalesce(nullif(:limit, ''), 50)
