-- What each step made, and what that took: seconds, tokens and US dollars of everything that is kept.
select * from step_costs where task = coalesce(nullif(:task, ''), task)
