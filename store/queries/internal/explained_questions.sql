-- How many training questions there are up to the last one with a rationale of the teacher that is accepted under :accept.
select count(*) from questions
where task = :task and split = 'train' and id <= (
    select max(q.id) from questions q join rationales r on r.question_id = q.id
    where q.task = :task and q.split = 'train' and r.teacher_id = :teacher
      and r.id in (select rationale_id from accepted_rationales where accept = :accept)
)
