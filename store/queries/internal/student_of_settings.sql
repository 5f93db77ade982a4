-- The newest student of a size and method that was trained with these settings on these data.
select id from students
where task = :task and size = :size and base = :base and method = :method
  and settings = :settings and (:data is null or data_sha256 = :data)
order by created desc, rowid desc limit 1
