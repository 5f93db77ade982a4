-- The first :k passages by BM25 of a question's first rationale, for each question of a split that has one.
select r.question_id, p.id, p.document, p.part, p.title, p.text
from retrievals r
join questions q on q.id = r.question_id
join hits h on h.retrieval_id = r.id and h.rank <= :k
join passages p on p.id = h.passage_id
where q.task = :task and q.split = :split and r.index_id = :index
  and r.rationale_form = :rationale_form
  and r.rationale_id = (
    select min(x.rationale_id) from retrievals x
    where x.question_id = r.question_id and x.index_id = :index and x.query = 'rationale'
      and x.rationale_form = :rationale_form
  )
order by r.question_id, h.rank
