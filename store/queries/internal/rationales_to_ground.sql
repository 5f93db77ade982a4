-- Rationales that lack passages of these forms, max_df and depth on this index, with their questions.
-- Of :split, which is trained on, only the first :limit questions count, and only rationales accepted under
-- :accept. Elsewhere the first rationale counts whatever it concludes: its passages are what Hits@k asks for, and
-- nothing is trained on them.
select q.id as question_id, q.text, q.options, t.id as rationale_id, t.text as rationale
from rationales t
join questions q on q.id = t.question_id
left join retrievals r on r.rationale_id = t.id and r.index_id = :index and r.form = :form and r.rationale_form = :rationale_form
  and r.max_df = (select iif(passages < :max_df_from, 1, :max_df) from indexes where id = :index)
where q.task = :task
  and ((q.split <> :split and t.sample = 0)
       or exists (select 1 from accepted_rationales where rationale_id = t.id and accept = :accept))
  and coalesce(r.depth, 0) < :depth
  and (q.split <> :split
       or q.id in (select id from questions where task = :task and split = :split
                   and (:drawn is null or id in (select value from json_each(:drawn)))
                 order by id limit :limit))
order by q.id, t.id
