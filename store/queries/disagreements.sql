-- Questions that two conditions answer differently; their ids are those that accuracy shows.
select q.task, q.split, q.key, q.text, q.answer as gold, p.answer as one_says, r.answer as other_says,
       p.correct as one_is_right, r.correct as other_is_right
from predictions p
join predictions r on r.question_id = p.question_id and r.evaluation_id = :other
join questions q on q.id = p.question_id
where p.evaluation_id = :one and p.answer is not r.answer and not (p.correct and r.correct)
order by p.correct desc, r.correct desc, q.key
