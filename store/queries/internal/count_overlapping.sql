-- How many questions of a split stand in a training question or a passage.
select count(distinct question_id) from overlaps
where question_id in (select id from questions where task = :task and split = :split)
