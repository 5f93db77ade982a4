-- How many training questions there are up to the last one with an accepted rationale of the teacher.
select count(*) from questions
where task = :task and split = 'train' and id <= (
    select max(q.id) from questions q join rationales r on r.question_id = q.id
    where q.task = :task and q.split = 'train' and r.accepted and r.teacher_id = :teacher
)
