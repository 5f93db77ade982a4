-- Accuracy by size, method, retriever and kind of question.
select task, split, size, method, seed, retriever, k, kind, questions, correct, accuracy
from accuracy order by task, split, size, method, seed, retriever, kind
