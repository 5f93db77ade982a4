-- What a split's first :limit questions need on an index, and what says so; silver by the teacher :teacher,
-- or by any, whose rationale :accept accepts.
select distinct question_id, passage_id, source from needed_passages
where question_id in (select id from questions where task = :task and split = :split order by id limit :limit)
  and (source = 'evidence' or (index_id = :index and accept = :accept and rationale_form = :rationale_form and (:teacher is null or teacher_id = :teacher)))
