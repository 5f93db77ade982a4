-- Passages that these retrievals found, best first.
select h.retrieval_id, p.id, p.document, p.part, p.title, p.text
from hits h
join passages p on p.id = h.passage_id
where h.retrieval_id in (select value from json_each(:retrievals))
order by h.retrieval_id, h.rank
