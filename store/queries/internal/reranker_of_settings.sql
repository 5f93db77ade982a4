-- The newest reranker of a task that was trained with these settings, on these data or (:data null) on any; none that
-- an ablation trained.
select id from rerankers
where task = :task and base = :base and index_id = :index and settings = :settings
  and (:data is null or data_sha256 = :data) and experiment = ''
order by created desc, rowid desc limit 1
