-- Copies a prediction into another evaluation.
insert into predictions (evaluation_id, question_id, answer, correct, f1, votes, passages, milliseconds, flops, created)
select :evaluation, question_id, answer, correct, f1, votes, passages, milliseconds, flops, :now
from predictions where id = :prediction
