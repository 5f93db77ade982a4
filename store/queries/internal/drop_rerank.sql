-- Deletes the orders that a task's rerankers made.
delete from rerank_scores where reranker_id in (select id from rerankers where task = :task)
