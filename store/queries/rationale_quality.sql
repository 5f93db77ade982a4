-- How many of each teacher's rationales were accepted, could not be read, and how long they are.
select * from rationale_quality order by task, split, teacher
