-- The first :k passages by the question itself, in their order, and the best silver passage; it stands last where it
-- is not among them.
select p.title, p.text from hits h join passages p on p.id = h.passage_id
where h.retrieval_id = :retrieval and (h.question_rank <= :k or h.rank = 1)
order by coalesce(h.question_rank, :k + 1)
