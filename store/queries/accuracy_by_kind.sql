-- Accuracy of every condition for each kind of question.
select evaluation_id, task, split, size, method, seed, retriever, k, kind, questions, correct, accuracy, f1, unread
from accuracy
where task = coalesce(nullif(:task, ''), task) and split = coalesce(nullif(:split, ''), split)
order by task, split, size, method, seed, retriever, k, evaluation_id, kind
