-- Deletes the dense orders of a task's questions.
delete from rankings
where retriever_id in (select id from retrievers where kind = 'dense')
  and question_id in (select id from questions where task = :task)
