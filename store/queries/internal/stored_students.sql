-- The trained students of a task with everything that names them.
select id, size, method, seed, base, created, rowid as number from students
where task = :task and path <> ''
order by size, method, seed, created, rowid
