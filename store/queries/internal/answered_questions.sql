-- The questions that the condition with this hash has answered, with the passages that it read.
select p.question_id, p.passages from predictions p join evaluations e on e.id = p.evaluation_id where e.hash = :hash
