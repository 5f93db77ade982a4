-- First :silver passages of each rationale, accepted under :accept, of the first :limit questions of a split.
select q.key, q.text, q.options, t.id as rationale_id, h.passage_id
from questions q
join rationales t on t.question_id = q.id and (:teacher is null or t.teacher_id = :teacher)
join accepted_rationales a on a.rationale_id = t.id and a.accept = :accept
join retrievals r on r.rationale_id = t.id and r.index_id = :index and r.rationale_form = :rationale_form
  and r.max_df = (select iif(passages < :max_df_from, 1, :max_df) from indexes where id = :index)
join hits h on h.retrieval_id = r.id and h.rank <= :silver
where q.id in (select id from questions where task = :task and split = :split
                 and (:drawn is null or id in (select value from json_each(:drawn)))
               order by id limit :limit)
order by q.id, t.id
