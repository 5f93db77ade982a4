-- How BM25 and a reranker were last made one order for a task.
select settings from retrievers
where kind = 'fused' and reranker_id = :reranker and coalesce(json_extract(settings, '$.task'), :task) = :task
order by created desc, rowid desc limit 1;
