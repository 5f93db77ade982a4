-- Answers to the questions of a split, or to one of them, with their conditions.
select p.id, p.evaluation_id, p.question_id, q.key, q.kind, q.answer as gold, p.answer, p.correct, p.votes,
       p.passages, s.size, s.method, s.seed,
       e.retriever, e.k, e.index_id, e.reranker_id, e.retriever_id, e.kappa
from predictions p
join evaluations e on e.id = p.evaluation_id
join questions q on q.id = p.question_id
join students s on s.id = e.student_id
where e.task = :task and e.split = :split and (:question is null or p.question_id = :question)
order by s.size, s.method, s.seed, e.retriever, e.k, e.id, q.id
