-- One question by its row id, with its evidence documents as a JSON list.
select q.id, q.task, q.key, q.split, q.text, q.options, q.answer, q.kind, q.facts,
       (select json_group_array(document) from evidence where question_id = q.id) as evidence
from questions q where q.id = :question
