-- The newest reranker of a task that was trained with these settings on these data; none that an ablation trained.
select id from rerankers
where task = :task and base = :base and index_id = :index and settings = :settings and data_sha256 = :data
  and experiment = ''
order by created desc, rowid desc limit 1
