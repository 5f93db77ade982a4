-- Judgements of the passages and rationales of a split's questions, newest last.
select j.id, j.question_id, q.key, j.passage_id, j.rationale_id, j.verdict, j.note, j.author, j.created
from judgements j
join questions q on q.id = j.question_id
where (:task is null or q.task = :task) and (:split is null or q.split = :split)
  and (:question is null or q.id = :question)
order by j.created, j.id
