-- How many rationales some questions have, and what they cost in US dollars.
select count(*) as rationales, coalesce(sum(cost), 0) as cost
from rationales where question_id in (select value from json_each(:questions))
