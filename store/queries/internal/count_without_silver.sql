-- How many of a split's first :limit questions have no passages that a rationale of :teacher (null: of any) found.
select count(*)
from (select id from questions where task = :task and split = :split order by id limit :limit) q
where q.id not in (
    select r.question_id
    from retrievals r
    join rationales t on t.id = r.rationale_id
    where r.index_id = :index and r.rationale_form = :rationale_form and r.max_df = :max_df
      and (:teacher is null or t.teacher_id = :teacher)
)
