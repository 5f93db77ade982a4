-- How many trained students a task has.
select count(*) from students where task = :task and path <> ''
