-- The newest fused, dense or hybrid retriever of this form of the query; how it mixes was chosen on this task's questions.
select id from retrievers
where kind = :kind and base = :base and reranker_id is :reranker and json_extract(settings, '$.query') = :form
  and coalesce(json_extract(settings, '$.task'), :task) = :task
order by created desc, rowid desc limit 1
