-- Passages that people judged, with their ranks and the number of answers that read them.
select q.task, q.split, q.key, j.verdict, j.author, j.note, p.title, j.passage_id, j.created,
       (select min(h.rank) from hits h join retrievals r on r.id = h.retrieval_id
        where h.passage_id = j.passage_id and r.question_id = j.question_id and r.query = 'question') as bm25_rank,
       (select min(s.rank) from rerank_scores s join retrievals r on r.id = s.retrieval_id
        where s.passage_id = j.passage_id and r.question_id = j.question_id) as reranked,
       (select count(*) from predictions x, json_each(x.passages) v
        where x.question_id = j.question_id and v.value = j.passage_id) as readings,
       q.text as question, p.text
from judgements j
join questions q on q.id = j.question_id
join passages p on p.id = j.passage_id
where q.task = coalesce(nullif(:task, ''), q.task) and j.verdict = coalesce(nullif(:verdict, ''), j.verdict)
order by q.task, q.split, q.key, j.created, j.id
