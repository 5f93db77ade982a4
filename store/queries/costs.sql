-- What each teacher cost, in money, tokens and time.
select * from costs where task = coalesce(nullif(:task, ''), task) order by task, teacher
