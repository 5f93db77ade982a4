-- Students by the beginning of their id, by task, size and method, newest first; a null parameter filters nothing. Those
-- that an ablation spoiled on purpose come last.
select *, coalesce(json_extract(settings, '$.wrong'), 0) > 0 or json_extract(settings, '$.passages') is 'shuffled' as spoiled
from students
where (path <> '' or :student is not null or :method is not null) -- a base that is only prompted must be named
  and (:student is null or id like :student || '%')
  and (:task is null or task = :task)
  and (:size is null or size = :size)
  and (:method is null or method = :method)
order by spoiled, created desc, rowid desc
