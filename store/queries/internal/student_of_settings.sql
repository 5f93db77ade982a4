-- The newest student of a size and method that was trained with these settings.
select id from students
where task = :task and size = :size and base = :base and method = :method and settings = :settings
order by created desc, rowid desc limit 1
