-- What each step of `kard run` added and how long it took, oldest first.
select task, step, started, round(milliseconds / 1000, 1) as seconds, added, note from steps_log
where task = coalesce(nullif(:task, ''), task)
order by id
