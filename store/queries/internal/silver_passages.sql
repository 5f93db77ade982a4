-- The first passages of each rationale of a split that is not trained on.
select s.question_id, s.index_id, s.rationale_id, s.passage_id
from rationale_passages s
join questions q on q.id = s.question_id
where q.task = :task and q.split = :split and (:question is null or q.id = :question) and q.split <> 'train'
order by s.question_id, s.rationale_id, s.rank
