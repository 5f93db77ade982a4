-- The training questions of a task, the passages that its newest answers were chosen from, and when these were given.
select
  (select count(*) from questions where task = :task and split = 'train') as trained,
  (
    select i.passages from evaluations e join indexes i on i.id = e.index_id
    where e.task = :task and e.split = :split order by e.id desc limit 1
  ) as passages,
  (
    select max(p.created) from predictions p join evaluations e on e.id = p.evaluation_id
    where e.task = :task and e.split = :split
  ) as newest
