-- Settings of the newest fusion of BM25 and a reranker.
select settings from retrievers
where kind = 'fused' and reranker_id = :reranker
order by created desc, rowid desc limit 1
