-- Deletes the hybrid orders of a task's questions.
delete from rankings
where retriever_id in (select id from retrievers where kind = 'hybrid')
  and question_id in (select id from questions where task = :task)
