-- Settings of the newest fusion of BM25 by this form of the query and a reranker.
select settings from retrievers
where kind = 'fused' and reranker_id = :reranker and json_extract(settings, '$.query') = :form
order by created desc, rowid desc limit 1
