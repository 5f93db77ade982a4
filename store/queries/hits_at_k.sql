-- Share of questions with a needed passage among the first k, by retriever and kind of gold.
select * from hits_at_k order by task, split, gold, retriever
