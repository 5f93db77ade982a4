-- Every text that students wrote for a question.
select s.prediction_id, s.sample, s.text, s.answer, s.forced, s.prompt_tokens, s.completion_tokens
from samples s join predictions p on p.id = s.prediction_id
where p.question_id = :question
order by s.prediction_id, s.sample
