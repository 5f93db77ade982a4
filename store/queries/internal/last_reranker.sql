-- The last reranker that was trained for a task; none that an ablation trained.
select recipe from rerankers
where task = :task and experiment = ''
order by created desc, rowid desc limit 1
