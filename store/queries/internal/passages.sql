-- The passages of these ids.
select id, document, part, title, text from passages where id in (select value from json_each(:ids))
