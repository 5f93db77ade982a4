-- How many retrievals of a kind of query a task has: on the index, or (:current 0) on others.
select count(*) from retrievals
where query = :query and (index_id = :index) = :current
  and question_id in (select id from questions where task = :task)
