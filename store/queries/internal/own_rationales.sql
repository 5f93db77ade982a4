-- What a condition with this hash wrote of these :questions and ended with an answer, unforced: by question and sample.
select q.id as question_id, q.text as question, q.options, q.answer, p.passages, s.text, s.answer as said
from evaluations e
join predictions p on p.evaluation_id = e.id
join samples s on s.prediction_id = p.id and s.forced is null
join questions q on q.id = p.question_id
where e.hash = :hash and q.id in (select value from json_each(:questions))
order by q.id, s.sample
