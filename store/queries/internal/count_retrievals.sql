-- How many retrievals of a kind of query a task has: on the index in these forms, or (:current 0) all others.
select count(*) from retrievals
where query = :query
  and (index_id = :index and form = :form and (query = 'question' or rationale_form = :rationale_form)) = :current
  and question_id in (select id from questions where task = :task)
