-- How many of a split's first :limit questions have no passages that a rationale found.
select count(*)
from (select id from questions where task = :task and split = :split order by id limit :limit) q
where q.id not in (
    select question_id from retrievals where query = 'rationale' and index_id = :index and rationale_form = :rationale_form
)
