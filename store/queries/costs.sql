-- What each teacher cost, in money, tokens and time.
select * from costs order by task, teacher
