-- Milliseconds that an ablation's reranker took to rank.
select sum(milliseconds) from steps_log where step = 'ablate' and note = :reranker
