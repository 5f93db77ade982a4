-- How many retrievals of a kind of query a task has: on the index in these forms and max_df, or (:current 0) all others.
select count(*) from retrievals
where query = :query
  and (index_id = :index and form = :form
       and max_df = (select iif(passages < :max_df_from, 1, :max_df) from indexes where id = :index)
       and (query = 'question' or rationale_form = :rationale_form)) = :current
  and question_id in (select id from questions where task = :task)
