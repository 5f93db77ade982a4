-- The first :limit questions of a task, of one split or of all, with their evidence documents as a JSON list.
select id, key, split, text, options, answer, kind, facts,
       (select json_group_array(document) from evidence where question_id = questions.id) as evidence
from questions
where task = :task and (:split is null or split = :split)
  and (:drawn is null or id in (select value from json_each(:drawn)))
order by id limit :limit
