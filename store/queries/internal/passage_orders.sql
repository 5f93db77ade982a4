-- Every order of each question's passages on one index: of BM25, of rerankers, of fused, dense and hybrid retrievers.
-- Rerankers that an ablation trained are left out unless :experiments, and so are questions that were not searched with
-- in the form and with the max_df of the last search. With :needed, only the first passage and what a question needs.
with asked as (
    select id from questions
    where task = :task and split = :split and (:question is null or id = :question) order by id limit :limit
),
last as (
    select form, max_df from retrievals
    where query = 'question' and index_id = :index and question_id in asked order by id desc limit 1
),
searched as (
    select id, question_id from retrievals
    where query = 'question' and index_id = :index and question_id in asked and (form, max_df) in last
),
orders as (
    select r.question_id, 'bm25' as retriever, h.rank, h.passage_id, h.bm25 as score
    from searched r join hits h on h.retrieval_id = r.id and h.rank <= :kappa
    union all
    select r.question_id, s.reranker_id, row_number() over (partition by s.reranker_id, r.id order by s.rank),
           s.passage_id, s.score
    from searched r
    join hits h on h.retrieval_id = r.id and h.rank <= :kappa
    join rerank_scores s on s.retrieval_id = r.id and s.passage_id = h.passage_id
    join rerankers k on k.id = s.reranker_id and (k.experiment = '' or :experiments)
    union all
    select g.question_id, t.kind || ' ' || t.id, x.rank, x.passage_id, x.score
    from rankings g
    join retrievers t on t.id = g.retriever_id
    join ranked x on x.ranking_id = g.id and x.rank <= :kappa
    where g.index_id = :index and g.question_id in asked and not exists (
        select 1 from last
        where last.form <> json_extract(t.settings, '$.query') or last.max_df <> json_extract(t.settings, '$.max_df')
    )
)
select question_id, retriever, rank, passage_id, score from orders
where not :needed or rank = 1 or (question_id, passage_id) in (
    select question_id, passage_id from needed_passages where question_id in asked
)
order by 1, 2, 3
