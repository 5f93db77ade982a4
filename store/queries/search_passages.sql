-- Passages that contain every word of a text, best first.
with best as materialized (
    select rowid, rank from passages_fts
    where passages_fts match '"' || replace(replace(printf('%s', :text), '"', '""'), ' ', '" "') || '"'
    order by rank limit coalesce(nullif(:limit, ''), 50)
)
select p.id, p.document, p.part, p.title, p.text,
       (select count(*) from hits h where h.passage_id = p.id) as lists
from best join passages p on p.rowid = best.rowid
order by best.rank
