-- A new order of a question's passages.
insert into rankings (retriever_id, index_id, question_id, depth, milliseconds, created)
values (:retriever_id, :index_id, :question_id, :depth, :milliseconds, :created)
