-- Questions of a set that have no BM25 retrieval of this form, max_df and depth on this index yet.
select q.id, q.text, q.options
from questions q
left join retrievals r on r.question_id = q.id and r.query = 'question' and r.form = :form and r.index_id = :index
  and r.max_df = (select iif(passages < :max_df_from, 1, :max_df) from indexes where id = :index)
where coalesce(r.depth, 0) < :depth
  and q.id in (
      select id from questions where task = :task and (:split is null or split = :split) order by id limit :limit)
  and (:drawn is null or q.id in (select value from json_each(:drawn)))
order by q.id
