-- Copies the samples of a prediction to its copy in another evaluation.
insert into samples (prediction_id, sample, text, answer, forced, cut, shares, prompt_tokens, completion_tokens)
select copy.id, s.sample, s.text, s.answer, s.forced, s.cut, s.shares, s.prompt_tokens, s.completion_tokens
from predictions p
join predictions copy on copy.question_id = p.question_id and copy.evaluation_id = :evaluation
join samples s on s.prediction_id = p.id
where p.id = :prediction
order by s.sample
