-- The first :k passages of each rationale of a task, on the newest index that it was searched in.
select x.rationale_id, h.passage_id
from (
    select r.rationale_id, max(r.id) as id
    from retrievals r join questions q on q.id = r.question_id
    where q.task = :task and q.split = coalesce(nullif(:split, ''), q.split) and r.query = 'rationale'
    group by r.rationale_id
) x
join hits h on h.retrieval_id = x.id and h.rank <= :k
order by x.rationale_id, h.rank
