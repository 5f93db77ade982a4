-- The last student of a size and method that was trained for a task.
select recipe from students
where task = :task and size = :size and method = :method and path <> ''
order by created desc, rowid desc limit 1
