-- What each teacher cost in US dollars, tokens and seconds.
select * from costs where task = coalesce(nullif(:task, ''), task) order by task, teacher
