-- How many rerankers a task has, without those that an ablation trained.
select count(*) from rerankers where task = :task and experiment = ''
