-- First rationales of recorded teachers: an explanation that came with a question is one of them.
select t.name, q.key, r.text
from rationales r
join teachers t on t.id = r.teacher_id
join questions q on q.id = r.question_id
where q.task = :task and r.sample = 0 and t.model like 'recorded:%'
order by t.name
