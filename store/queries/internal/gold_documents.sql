-- Evidence documents of a split's questions with their passages, and facts with the passages that hold them.
-- A document without passages has a row too.
select e.question_id, e.document, p.id as passage_id, p.part
from evidence e
join questions q on q.id = e.question_id
left join passages p on p.document = e.document
where q.task = :task and q.split = :split and (:question is null or q.id = :question)
union all
select f.question_id, 'fact ' || f.fact, f.passage_id, 0
from fact_passages f
join questions q on q.id = f.question_id
where q.task = :task and q.split = :split and (:question is null or q.id = :question)
order by 1, 2, 4, 3
