-- Those of these questions whose retrieval on this index found nothing.
select question_id
from retrievals r
where query = 'question' and index_id = :index
  and question_id in (select value from json_each(:questions))
  and not exists (select 1 from hits where retrieval_id = r.id)
