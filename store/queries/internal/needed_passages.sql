-- Passages that each question needs: those of its evidence, and the first :silver ones of its first rationale.
select e.question_id, 'evidence' as source, e.document as unit, p.id as passage_id
from evidence e
join questions q on q.id = e.question_id
join passages p on p.document = e.document
where q.task = :task and q.split = :split
union all
select r.question_id, 'silver', h.passage_id, h.passage_id
from retrievals r
join questions q on q.id = r.question_id
join rationales t on t.id = r.rationale_id and t.sample = 0
join hits h on h.retrieval_id = r.id and h.rank <= :silver
where q.task = :task and q.split = :split and r.index_id = :index and r.query = 'rationale'
