-- The best rank of a needed passage, for each question, retriever (a reranker's id) and kind of gold.
select q.key, f.gold, f.retriever, f.rank
from first_hits f join questions q on q.id = f.question_id
where f.task = :task and f.split = :split
order by f.gold, f.retriever, q.id
