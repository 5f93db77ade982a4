-- A new retrieval.
insert into retrievals (id, index_id, question_id, rationale_id, query, form, rationale_form, max_df, depth, milliseconds, created)
values (:id, :index_id, :question_id, :rationale_id, :query, :form, :rationale_form, :max_df, :depth, :milliseconds, :created)
