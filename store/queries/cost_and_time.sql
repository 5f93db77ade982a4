-- What each step has made, and the seconds, tokens and US dollars that it took.
select * from step_costs where task = coalesce(nullif(:task, ''), task)
