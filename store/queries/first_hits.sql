-- The best rank of a needed passage for each question, index, retriever and its query, teacher and rule, with the depth
-- of the search.
select q.key, f.gold, t.name as teacher, f.accept, f.rationale_form, f.index_id,
       i.created as documents, f.retriever, f.form, f.max_df, f.rank, coalesce(
    (select g.depth from rankings g join retrievers t on t.id = g.retriever_id
     where g.question_id = f.question_id and g.index_id = f.index_id and f.retriever = t.kind || ' ' || t.id),
    (select max(r.depth) from retrievals r
     where r.question_id = f.question_id and r.index_id = f.index_id and r.query = 'question')
) as depth, f.needed, f.held
from first_hits f
join questions q on q.id = f.question_id
left join indexes i on i.id = f.index_id
left join teachers t on t.id = f.teacher_id
where f.task = :task and f.split = :split
order by f.gold, f.teacher_id, f.accept, f.rationale_form, f.index_id, f.retriever, q.id
