-- Every text that a split's questions were answered with, with what its student was shown.
select p.evaluation_id, p.question_id, q.key, q.text as question, q.options, p.passages, p.correct, s.text
from evaluations e
join predictions p on p.evaluation_id = e.id
join samples s on s.prediction_id = p.id
join questions q on q.id = p.question_id
where e.task = :task and e.split = :split
order by e.id, q.id, s.sample
