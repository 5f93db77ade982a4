-- Ids of the passages that these retrievals found, each once.
select distinct passage_id from hits where retrieval_id in (select value from json_each(:retrievals)) order by 1
