-- Students and rerankers, those of ablations too, whose id begins with :id, with their recipes.
select 'student' as kind, id, recipe from students where substr(id, 1, length(:id)) = :id
union all
select 'reranker', id, recipe from rerankers where substr(id, 1, length(:id)) = :id
order by 1, 2
