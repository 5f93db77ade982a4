-- Evidence documents of a split's questions with their passages; a document without passages has a row too.
select e.question_id, e.document, p.id as passage_id
from evidence e
join questions q on q.id = e.question_id
left join passages p on p.document = e.document
where q.task = :task and q.split = :split and (:question is null or q.id = :question)
order by e.question_id, e.document, p.part, p.id
