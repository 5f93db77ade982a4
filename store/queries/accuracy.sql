-- Accuracy of every condition: a student, its retriever and the number of passages that it reads.
select evaluation_id, task, split, size, method, seed, retriever, k, sum(questions) as questions,
       sum(correct) as correct, round(1.0 * sum(correct) / sum(questions), 4) as accuracy,
       (select round(avg(p.f1), 4) from predictions p where p.evaluation_id = accuracy.evaluation_id) as f1,
       sum(unread) as unread
from accuracy
where task = coalesce(nullif(:task, ''), task) and split = coalesce(nullif(:split, ''), split)
group by evaluation_id
order by task, split, size, method, seed, retriever, k, evaluation_id
