-- Those of these passage ids that the store holds.
select id from passages where id in (select value from json_each(:ids))
