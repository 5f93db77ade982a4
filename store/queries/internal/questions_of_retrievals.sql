-- The questions of these retrievals.
select distinct question_id from retrievals
where id in (select value from json_each(:retrievals))
order by question_id
