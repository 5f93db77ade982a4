-- The views, which hold no data: a store that has other ones gets these when it is opened for writing.

-- Accuracy of every condition for each kind of question.
create view accuracy as
select e.id as evaluation_id, e.task, e.split, s.size, s.method, s.seed, e.retriever, e.k, q.kind,
       count(*) as questions, sum(p.correct) as correct,
       round(avg(p.correct), 4) as accuracy, round(avg(p.f1), 4) as f1,
       sum(p.answer is null) as unread,
       round(avg(p.milliseconds), 1) as milliseconds, avg(p.flops) as flops
from predictions p
join evaluations e on e.id = p.evaluation_id
join students s on s.id = e.student_id
join questions q on q.id = p.question_id
group by e.id, q.kind;

-- The first 3 passages by BM25 of each rationale that was searched with.
create view rationale_passages as
select r.question_id, r.index_id, t.teacher_id, t.sample, r.rationale_id, r.rationale_form, r.max_df, h.rank, h.passage_id
from retrievals r
join rationales t on t.id = r.rationale_id
-- after its own passages, a rationale's hits are those of the question
join hits h on h.retrieval_id = r.id and h.rank <= 3 and h.rank <= r.depth
where r.query = 'rationale';

-- The silver passages of a question: on each index those of each teacher's first rationale that a rule accepts.
create view silver_passages as
select s.question_id, s.index_id, s.teacher_id, a.accept, s.rationale_form, s.max_df, s.rationale_id, s.rank, s.passage_id
from rationale_passages s
join accepted_rationales a on a.rationale_id = s.rationale_id
where not exists (
    select 1 from rationales t
    join retrievals r on r.rationale_id = t.id
    join accepted_rationales b on b.rationale_id = t.id and b.accept = a.accept
    where t.question_id = s.question_id and t.teacher_id = s.teacher_id and t.sample < s.sample
      and r.index_id = s.index_id and r.rationale_form = s.rationale_form and r.max_df = s.max_df
);

-- What a question needs: the documents of its evidence, any passage of each, or passages that hold its facts, and its
-- silver passages on an index by a teacher under a rule. A document without a passage is one that the knowledge base lacks.
create view needed_passages as
select e.question_id, null as index_id, null as teacher_id, null as accept, null as rationale_form, null as max_df,
       'evidence' as source, e.document as unit, p.id as passage_id
from evidence e left join passages p on p.document = e.document
union all
select question_id, null, null, null, null, null, 'evidence', 'fact ' || fact, passage_id from fact_passages
union all
select question_id, index_id, teacher_id, accept, rationale_form, max_df, 'silver', passage_id, passage_id
from silver_passages where accept <> 'none';

-- The best rank of a needed passage, one row per question, index, retriever with its query, and kind of gold with its
-- teacher, rule and query.
create view first_hits as
select q.task, q.split, q.kind, r.question_id, r.index_id, 'bm25' as retriever, r.form, r.max_df,
       n.source as gold, n.teacher_id, n.accept, n.rationale_form,
       min(h.rank) as rank, count(distinct n.unit) as needed,
       count(distinct case when n.passage_id is not null then n.unit end) as held
from needed_passages n
join retrievals r on r.question_id = n.question_id and r.query = 'question' and r.index_id = coalesce(n.index_id, r.index_id)
  and r.max_df = coalesce(n.max_df, r.max_df)
join questions q on q.id = r.question_id
-- by the passage's id: reading every list from its top would read every hit
left join hits h on h.passage_id = n.passage_id and h.retrieval_id = r.id
where exists (select 1 from hits where retrieval_id = r.id)
group by r.id, n.source, n.teacher_id, n.accept, n.rationale_form
union all
select q.task, q.split, q.kind, r.question_id, r.index_id, k.id, r.form, r.max_df,
       n.source, n.teacher_id, n.accept, n.rationale_form,
       min(s.rank), count(distinct n.unit), count(distinct case when n.passage_id is not null then n.unit end)
from needed_passages n
join retrievals r on r.question_id = n.question_id and r.index_id = coalesce(n.index_id, r.index_id)
  and r.max_df = coalesce(n.max_df, r.max_df)
join questions q on q.id = r.question_id
join rerankers k on exists (select 1 from rerank_scores where reranker_id = k.id and retrieval_id = r.id)
left join rerank_scores s on s.passage_id = n.passage_id and s.reranker_id = k.id and s.retrieval_id = r.id
group by k.id, r.id, n.source, n.teacher_id, n.accept, n.rationale_form
union all
select q.task, q.split, q.kind, g.question_id, g.index_id, t.kind || ' ' || t.id,
       coalesce(json_extract(t.settings, '$.query'), 'question'), json_extract(t.settings, '$.max_df'),
       n.source, n.teacher_id, n.accept, n.rationale_form,
       min(x.rank), count(distinct n.unit), count(distinct case when n.passage_id is not null then n.unit end)
from needed_passages n
join rankings g on g.question_id = n.question_id and g.index_id = coalesce(n.index_id, g.index_id)
join retrievers t on t.id = g.retriever_id
join questions q on q.id = g.question_id
left join ranked x on x.passage_id = n.passage_id and x.ranking_id = g.id
group by g.id, n.source, n.teacher_id, n.accept, n.rationale_form;

-- Share of questions with a needed passage among the first k, for each index, retriever and its query, kind of gold and
-- its teacher, rule and query.
create view hits_at_k as
select task, split, index_id, retriever, form, max_df, gold, teacher_id, accept, rationale_form, count(*) as questions,
       round(avg(1.0 * held / needed), 4) as held,
       round(avg(coalesce(rank <= 1, 0)), 4) as hits_at_1,
       round(avg(coalesce(rank <= 3, 0)), 4) as hits_at_3,
       round(avg(coalesce(rank <= 5, 0)), 4) as hits_at_5,
       round(avg(coalesce(rank <= 10, 0)), 4) as hits_at_10,
       round(avg(coalesce(rank <= 100, 0)), 4) as hits_at_100
from first_hits
group by task, split, index_id, retriever, form, max_df, gold, teacher_id, accept, rationale_form;

-- How many of each teacher's rationales were accepted or could not be read, and how long they are.
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

-- The rationales that may train under each rule: by their own conclusion, by the verdict of all their readers, by both, all.
create view accepted_rationales as
select r.id as rationale_id, a.accept
from rationales r
join (select 'own' as accept union all select 'verified' union all select 'both' union all select 'none') a
  on (a.accept in ('verified', 'none') or r.accepted)
 and (a.accept in ('own', 'none') or (select min(v.agrees) from verifications v where v.rationale_id = r.id));

-- Everything that teachers wrote and were paid for: rationales (complete = 1) and failed replies.
create view replies as
select question_id, teacher_id, prompt_tokens, completion_tokens, cost, milliseconds, 1 as complete from rationales
union all
select question_id, teacher_id, prompt_tokens, completion_tokens, cost, milliseconds, 0 from failed_replies;

-- What each teacher cost in US dollars, tokens and seconds.
create view costs as
select q.task, t.name as teacher, sum(r.complete) as rationales, sum(r.prompt_tokens) as prompt_tokens,
       sum(r.completion_tokens) as completion_tokens, round(sum(r.cost), 6) as cost,
       round(sum(r.milliseconds) / 1000, 1) as seconds
from replies r
join questions q on q.id = r.question_id
join teachers t on t.id = r.teacher_id
group by q.task, t.id;

-- Rationales with the verdict on their conclusion, the opinion of verifiers and the judgements of people.
create view rationale_verdicts as
select r.id, q.task, q.split, q.key, r.question_id, t.name as teacher, r.teacher_id, r.sample,
       case when r.conclusion is null then 'unread' when r.accepted then 'accepted' else 'rejected' end as verdict,
       q.answer as gold, r.conclusion,
       (select min(v.agrees) from verifications v where v.rationale_id = r.id) as verified,
       (select count(*) from judgements j where j.rationale_id = r.id and j.verdict = 'good') as good,
       (select count(*) from judgements j where j.rationale_id = r.id and j.verdict = 'bad') as bad,
       r.text
from rationales r
join questions q on q.id = r.question_id
join teachers t on t.id = r.teacher_id;

-- What each step has made, and the seconds (summed over threads), tokens and US dollars that it took.
create view step_costs as
select q.task, 'teach' as step, 'rationales' as unit, sum(r.complete) as units, round(sum(r.milliseconds) / 1000, 1) as seconds,
       sum(r.prompt_tokens + r.completion_tokens) as tokens, round(sum(r.cost), 6) as cost
from replies r join questions q on q.id = r.question_id
group by q.task
union all
select q.task, 'verify', 'verifications', count(*), round(sum(v.milliseconds) / 1000, 1),
       sum(v.prompt_tokens + v.completion_tokens), round(sum(v.cost), 6)
from verifications v join rationales r on r.id = v.rationale_id join questions q on q.id = r.question_id
group by q.task
union all
select q.task, case r.query when 'question' then 'retrieve' else 'ground' end, r.query || 's', count(*),
       round(sum(r.milliseconds) / 1000, 1), null, null
from retrievals r join questions q on q.id = r.question_id
group by q.task, r.query
union all
select task, 'reranker', 'rerankers', count(*), round(sum(milliseconds) / 1000, 1), null, null
from rerankers group by task
union all
select task, 'student', 'students', count(*), round(sum(milliseconds) / 1000, 1), sum(tokens), null
from students group by task
union all
select e.task, 'answer', 'answers', count(*), round(sum(p.milliseconds) / 1000, 1),
       (select sum(x.prompt_tokens + x.completion_tokens) from samples x
        join predictions y on y.id = x.prediction_id
        join evaluations v on v.id = y.evaluation_id where v.task = e.task), null
from predictions p join evaluations e on e.id = p.evaluation_id
group by e.task;

-- What students may be trained on: a question, an accepted rationale and its first passages.
create view training_pairs as
select q.task, q.split, q.id as question_id, r.id as rationale_id, r.teacher_id, x.index_id,
       q.text as question, q.options, q.answer, r.text as rationale,
       h.rank, h.passage_id, p.title, p.text as passage, a.accept
from questions q
join rationales r on r.question_id = q.id
join accepted_rationales a on a.rationale_id = r.id and a.accept <> 'none'
join retrievals x on x.rationale_id = r.id
join hits h on h.retrieval_id = x.id and h.rank <= 3
join passages p on p.id = h.passage_id;

-- What rerankers are trained on: a question, a candidate passage and BM25(rationale, candidate).
create view reranker_pairs as
select q.task, q.split, q.id as question_id, r.id as rationale_id, r.teacher_id, x.index_id,
       h.passage_id, h.bm25, h.rank, h.question_rank, h.rank <= x.depth as from_rationale, a.accept,
       x.form, x.rationale_form
from questions q
join rationales r on r.question_id = q.id
join accepted_rationales a on a.rationale_id = r.id
join retrievals x on x.rationale_id = r.id
join hits h on h.retrieval_id = x.id;
