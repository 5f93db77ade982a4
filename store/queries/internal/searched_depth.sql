-- The deepest rank that BM25 was asked for with the questions of a split.
select max((select max(rank) from hits where retrieval_id = r.id))
from retrievals r
join questions q on q.id = r.question_id
where q.task = :task and q.split = :split and r.query = 'question'
