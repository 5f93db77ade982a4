-- The first :silver passages of each rationale of a split that is not trained on.
select r.question_id, r.index_id, r.rationale_id, h.passage_id
from retrievals r
join questions q on q.id = r.question_id
join hits h on h.retrieval_id = r.id and h.rank <= :silver
where q.task = :task and q.split = :split and (:question is null or q.id = :question)
  and q.split <> 'train' and r.query = 'rationale'
order by r.question_id, r.rationale_id, h.rank
