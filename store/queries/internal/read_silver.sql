-- The first :k passages by BM25 of each question's first rationale of :teacher (null: of any) that :accept accepts; of its
-- first one where none is accepted.
select r.question_id, p.id, p.document, p.part, p.title, p.text
from (
    select r.id, r.question_id, row_number() over (partition by r.question_id order by a.rationale_id is null, t.sample, t.id) as place
    from retrievals r
    join questions q on q.id = r.question_id
    join rationales t on t.id = r.rationale_id
    left join accepted_rationales a on a.rationale_id = t.id and a.accept = :accept
    where q.task = :task and q.split = :split and r.index_id = :index
      and r.rationale_form = :rationale_form and r.max_df = :max_df
      and (:teacher is null or t.teacher_id = :teacher)
) r
join hits h on h.retrieval_id = r.id and h.rank <= :k
join passages p on p.id = h.passage_id
where r.place = 1
order by r.question_id, h.rank
