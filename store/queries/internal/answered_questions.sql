-- The questions that the condition with this hash has answered.
select question_id from predictions p join evaluations e on e.id = p.evaluation_id where e.hash = :hash
