-- What each question of a split needs on an index: a passage of each unit. A unit without one is not in the knowledge base.
select n.question_id, n.source, t.name as teacher, n.accept, n.rationale_form, n.unit, n.passage_id
from needed_passages n
join questions q on q.id = n.question_id
left join teachers t on t.id = n.teacher_id
where q.task = :task and q.split = :split and (n.index_id is null or n.index_id = :index)
order by n.question_id
