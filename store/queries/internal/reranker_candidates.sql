-- Candidates of the rationales, accepted under :accept, of a split's questions in one index, with BM25 by the rationale.
select p.question_id, q.key, q.text, q.options, p.rationale_id, t.text, p.passage_id, p.bm25, p.from_rationale, p.question_rank
from reranker_pairs p
join questions q on q.id = p.question_id
join rationales t on t.id = p.rationale_id
where p.task = :task and p.split = :split and p.index_id = :index and p.accept = :accept
  and p.form = :form and p.rationale_form = :rationale_form
  and (:teacher is null or p.teacher_id = :teacher)
  and p.question_id in (
    select id from questions where task = :task and split = :split
      and (:drawn is null or id in (select value from json_each(:drawn)))
    order by id limit :limit offset :skip
  )
order by p.question_id, p.rationale_id, p.rank
