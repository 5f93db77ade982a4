-- The rationales, accepted under :accept, of the first :limit answered questions of a split. With :index, only those
-- grounded on it.
select q.id as question_id, q.text as question, q.options, q.answer, r.id as rationale_id, r.text as rationale,
       x.id as retrieval_id
from questions q
join rationales r on r.question_id = q.id
join accepted_rationales a on a.rationale_id = r.id and a.accept = :accept
left join retrievals x on x.rationale_id = r.id and x.index_id = :index
  and x.rationale_form = :rationale_form
where q.id in (select id from questions where task = :task and split = :split and answer is not null
                 and (:drawn is null or id in (select value from json_each(:drawn)))
               order by id limit :limit)
  and (:teacher is null or r.teacher_id = :teacher)
  and (:index is null or x.id is not null)
order by q.id, r.id
