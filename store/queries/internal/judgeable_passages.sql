-- Passages that were found for a question, read for it or named as its evidence.
select h.passage_id from retrievals r join hits h on h.retrieval_id = r.id where r.question_id = :question
union
select j.value from predictions p, json_each(p.passages) j where p.question_id = :question
union
select p.id from evidence e join passages p on p.document = e.document where e.question_id = :question
union
select passage_id from fact_passages where question_id = :question
order by 1
