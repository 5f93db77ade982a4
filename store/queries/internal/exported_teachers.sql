-- Teachers of a task's rationales, one or all, that `exported_rationales` names.
select distinct t.id, t.model
from rationales r
join questions q on q.id = r.question_id
join teachers t on t.id = r.teacher_id
where q.task = :task and (:teacher is null or t.name = :teacher)
