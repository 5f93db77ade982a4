-- Every text that students wrote under a condition, with the answer that was read from it and the vote.
select p.id as prediction_id, q.key, q.options, q.answer as gold, p.answer as vote, p.correct, p.f1, p.votes,
       x.sample, x.text, x.answer, x.forced, x.shares
from samples x
join predictions p on p.id = x.prediction_id
join questions q on q.id = p.question_id
where p.evaluation_id = :evaluation
order by p.id, x.sample
