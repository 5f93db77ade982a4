-- What the student of an evaluation wrote, with the same decoding, in its other evaluations; oldest first.
select p.id, p.question_id, p.passages
from predictions p
join evaluations e on e.id = p.evaluation_id
join evaluations mine on mine.id = :evaluation
where e.id <> mine.id and e.student_id = mine.student_id and e.decoding = mine.decoding
order by p.id
