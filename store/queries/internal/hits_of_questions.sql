-- Questions that were searched with in an index, each with the number of passages that were found.
select r.question_id, count(h.passage_id) as hits from retrievals r left join hits h on h.retrieval_id = r.id
where r.query = 'question' and r.index_id = :index group by r.question_id
