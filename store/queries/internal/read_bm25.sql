-- The first :k passages by BM25(question) for each question of a split.
select r.question_id, p.id, p.document, p.part, p.title, p.text
from retrievals r
join questions q on q.id = r.question_id
join hits h on h.retrieval_id = r.id and h.rank <= :k
join passages p on p.id = h.passage_id
where q.task = :task and q.split = :split and r.index_id = :index and r.query = 'question'
  and r.form = :form and r.max_df = :max_df
order by r.question_id, h.rank
