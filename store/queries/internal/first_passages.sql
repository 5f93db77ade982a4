-- The first :k passages of a retrieval, best first.
select p.title, p.text from hits h join passages p on p.id = h.passage_id
where h.retrieval_id = :retrieval and h.rank <= :k order by h.rank
