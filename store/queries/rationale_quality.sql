-- How many of each teacher's rationales were accepted or could not be read, and how long they are.
select * from rationale_quality
where task = coalesce(nullif(:task, ''), task) and split = coalesce(nullif(:split, ''), split)
order by task, split, teacher
