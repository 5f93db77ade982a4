-- The passages that a split's first :limit questions need, and what says so.
select distinct question_id, passage_id, source from needed_passages
where question_id in (select id from questions where task = :task and split = :split order by id limit :limit)
