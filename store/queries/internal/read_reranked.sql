-- The first :k passages by the reranker among the first :kappa by BM25, for each question of a split.
select x.question_id, p.id, p.document, p.part, p.title, p.text
from (
    select r.question_id, s.passage_id, row_number() over (partition by r.id order by s.rank) as place
    from retrievals r
    join questions q on q.id = r.question_id
    join rerank_scores s on s.retrieval_id = r.id and s.reranker_id = :reranker
    join hits h on h.retrieval_id = r.id and h.passage_id = s.passage_id and h.rank <= :kappa
    where q.task = :task and q.split = :split and r.index_id = :index and r.query = 'question'
      and r.form = :form and r.max_df = :max_df
) x
join passages p on p.id = x.passage_id
where x.place <= :k
order by x.question_id, x.place
