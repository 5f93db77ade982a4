-- Rerankers whose id begins with :reranker, of :task, either of which may be null; the newest first.
select id, task from rerankers
where (:reranker is null or id like :reranker || '%') and (:task is null or task = :task)
order by experiment <> '', created desc, rowid desc
