-- The first :k passages of a retrieval, best first; with :by_question in the order of the question's own search.
select p.title, p.text from hits h join passages p on p.id = h.passage_id
where h.retrieval_id = :retrieval and iif(:by_question, h.question_rank, h.rank) <= :k
order by iif(:by_question, h.question_rank, h.rank)
