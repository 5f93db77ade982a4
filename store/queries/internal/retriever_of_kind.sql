-- The newest fused, dense or hybrid retriever among whose settings are these, a JSON object.
select id from retrievers r
where kind = :kind and base = :base and reranker_id is :reranker
  and not exists (select 1 from json_each(:settings) s where json_extract(r.settings, '$.' || s.key) is not s.value)
order by created desc, rowid desc limit 1
