-- Views hold no data: they are dropped and made again whenever a store is opened for writing.

-- Accuracy of each condition, by kind of question.
create view accuracy as
select e.id as evaluation_id, e.task, e.split, s.size, s.method, s.seed, e.retriever, e.k, q.kind,
       count(*) as questions, sum(p.correct) as correct,
       round(avg(p.correct), 4) as accuracy,
       sum(p.answer is null) as unread,
       round(avg(p.milliseconds), 1) as milliseconds, avg(p.flops) as flops
from predictions p
join evaluations e on e.id = p.evaluation_id
join students s on s.id = e.student_id
join questions q on q.id = p.question_id
group by e.id, q.kind;

-- The passages that a question needs: gold evidence where the data names it, else the top 3 by a rationale.
create view needed_passages as
select q.id as question_id, p.id as passage_id, 'evidence' as source
from evidence e join questions q on q.id = e.question_id join passages p on p.document = e.document
union
select r.question_id, h.passage_id, 'silver' as source
from retrievals r join hits h on h.retrieval_id = r.id
join rationales t on t.id = r.rationale_id
where r.query = 'rationale' and t.sample = 0 and h.rank <= 3;

-- One row a question, retriever and kind of gold: the best rank at which a needed passage stands.
create view first_hits as
select q.task, q.split, q.kind, r.question_id, r.index_id, 'bm25' as retriever, n.source as gold,
       min(case when n.passage_id = h.passage_id then h.rank end) as rank
from retrievals r
join questions q on q.id = r.question_id
join hits h on h.retrieval_id = r.id
join needed_passages n on n.question_id = r.question_id
where r.query = 'question'
group by r.id, n.source
union all
select q.task, q.split, q.kind, r.question_id, r.index_id, s.reranker_id as retriever, n.source as gold,
       min(case when n.passage_id = s.passage_id then s.rank end) as rank
from rerank_scores s
join retrievals r on r.id = s.retrieval_id
join questions q on q.id = r.question_id
join needed_passages n on n.question_id = r.question_id
group by s.reranker_id, r.id, n.source;

-- Share of questions with a needed passage among the first k.
create view hits_at_k as
select task, split, index_id, retriever, gold, count(*) as questions,
       round(avg(coalesce(rank <= 1, 0)), 4) as hits_at_1,
       round(avg(coalesce(rank <= 3, 0)), 4) as hits_at_3,
       round(avg(coalesce(rank <= 5, 0)), 4) as hits_at_5,
       round(avg(coalesce(rank <= 10, 0)), 4) as hits_at_10,
       round(avg(coalesce(rank <= 100, 0)), 4) as hits_at_100
from first_hits
group by task, split, index_id, retriever, gold;

-- What each teacher's rationales are worth.
create view rationale_quality as
select q.task, q.split, t.name as teacher, count(*) as rationales,
       count(distinct q.id) as questions,
       round(avg(r.accepted), 4) as accepted,
       round(avg(r.conclusion is null), 4) as unread,
       round(avg(length(r.text)), 1) as characters
from rationales r
join questions q on q.id = r.question_id
join teachers t on t.id = r.teacher_id
group by q.task, q.split, t.id;

-- What was paid, in money and tokens, by teacher.
create view costs as
select q.task, t.name as teacher, count(*) as rationales, sum(r.prompt_tokens) as prompt_tokens,
       sum(r.completion_tokens) as completion_tokens, round(sum(r.cost), 6) as cost,
       round(sum(r.milliseconds) / 1000, 1) as seconds
from rationales r
join questions q on q.id = r.question_id
join teachers t on t.id = r.teacher_id
group by q.task, t.id;

-- What a student may be trained on: a question, an accepted rationale, its passages best first.
create view training_pairs as
select q.task, q.split, q.id as question_id, r.id as rationale_id, r.teacher_id, x.index_id,
       q.text as question, q.options, q.answer, r.text as rationale,
       h.rank, h.passage_id, p.title, p.text as passage
from questions q
join rationales r on r.question_id = q.id and r.accepted = 1
join retrievals x on x.rationale_id = r.id
join hits h on h.retrieval_id = x.id and h.rank <= 3
join passages p on p.id = h.passage_id;

-- What a reranker is trained on: a question, a candidate, BM25(rationale, candidate).
create view reranker_pairs as
select q.task, q.split, q.id as question_id, r.id as rationale_id, r.teacher_id, x.index_id,
       h.passage_id, h.bm25, h.rank, h.question_rank, h.rank <= x.depth as from_rationale
from questions q
join rationales r on r.question_id = q.id and r.accepted = 1
join retrievals x on x.rationale_id = r.id
join hits h on h.retrieval_id = x.id;
