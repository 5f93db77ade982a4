-- Share of questions with a needed passage among the first k, for each retriever.
select * from hits_at_k
where task = coalesce(nullif(:task, ''), task) and split = coalesce(nullif(:split, ''), split)
order by task, split, gold, retriever
