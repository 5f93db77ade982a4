-- Questions of a set that this retriever has not ordered to exactly this depth on this index.
select q.id, q.text, q.options
from questions q
left join rankings g on g.question_id = q.id and g.index_id = :index and g.retriever_id = :retriever
where coalesce(g.depth, 0) <> :depth
  and q.id in (
      select id from questions where task = :task and (:split is null or split = :split) order by id limit :limit)
  and (:drawn is null or q.id in (select value from json_each(:drawn)))
order by q.id
