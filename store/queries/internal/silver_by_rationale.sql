-- The first passages of each rationale of a task, on the newest index that it was searched in.
select s.rationale_id, s.passage_id
from (
    select r.rationale_id, r.index_id, max(r.id)
    from retrievals r join questions q on q.id = r.question_id
    where q.task = :task and q.split = coalesce(nullif(:split, ''), q.split) and r.query = 'rationale'
    group by r.rationale_id
) x
join rationale_passages s on s.rationale_id = x.rationale_id and s.index_id = x.index_id
order by s.rationale_id, s.rank
