-- The newest reranker of a task on an index, if possible of this seed; none that an ablation trained.
select id from rerankers
where task = :task and index_id = :index and experiment = ''
order by json_extract(settings, '$.seed') = :seed desc, created desc, rowid desc limit 1
