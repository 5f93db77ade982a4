-- Accuracy on training questions, which `kard evaluate TASK --split train` answers, beside that on held-out ones.
with shares as (
    select e.task, e.split, e.student_id, e.retriever, e.k, e.decoding, avg(p.correct) as accuracy
    from evaluations e join predictions p on p.evaluation_id = e.id
    where e.task = coalesce(nullif(:task, ''), e.task)
    group by e.id
),
sides as (
    select task, student_id, retriever, k, max(case when split = 'train' then accuracy end) as train,
           max(case when split in ('dev', 'validation', 'valid') then accuracy end) as dev,
           max(case when split not in ('train', 'dev', 'validation', 'valid') then accuracy end) as test
    from shares group by task, student_id, retriever, k, decoding
)
select x.task, s.size, s.method, s.seed, x.retriever, x.k, s.examples, round(s.loss, 4) as loss,
       round(x.train, 4) as train, round(x.dev, 4) as dev, round(x.test, 4) as test,
       round(x.train - coalesce(x.dev, x.test), 4) as gap
from sides x join students s on s.id = x.student_id
order by gap is null, gap desc, s.size, s.method, x.retriever
