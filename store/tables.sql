-- Every table, index and trigger of the store. A key is an integer where a table has many rows, else a hash of what made
-- the row. The comments beside tables and columns are what docs/store.md, `kard ui` and kard/schema.py show.

create table questions (            -- every question of every task
    id integer primary key,
    task text not null,
    key text not null,              -- id in the published file
    split text not null,
    text text not null,             -- the question
    options text not null,          -- JSON list; option 0 is A; empty for a short answer
    answer text,                    -- letter of the right option, or a short answer; null when unknown
    kind text not null default '',  -- kind of question that is reported apart, '' where a task has one kind
    facts text not null default '[]', -- JSON list of statements from which the answer follows
    hash text not null,             -- of everything above
    created text not null,
    unique (task, key)
);
create index questions_by_split on questions (task, split);

create table evidence (             -- documents that hold the answer, where a data set names them
    question_id integer not null references questions (id) on delete cascade,
    document text not null,         -- passages.document
    primary key (question_id, document)
) without rowid;

create table fact_passages (        -- passages in which a fact of a question without evidence stands word for word
    question_id integer not null references questions (id) on delete cascade,
    fact integer not null,          -- its place in the question's facts, 0-based
    passage_id text not null references passages (id) on delete cascade,
    primary key (question_id, fact, passage_id)
) without rowid;
create index fact_passages_by_passage on fact_passages (passage_id);

create table indexes (              -- states of knowledge bases: another set of passages is another index
    id text primary key,            -- hash of the passages' hashes and the analyser
    path text not null,             -- folder of the knowledge base
    passages integer not null,      -- number of passages
    analyser text not null,         -- how texts become search terms
    created text not null
);

create table passages (             -- passages that were retrieved for a question or are evidence for one
    id text primary key,            -- hash of the content
    document text not null,         -- key of the document in its source
    part integer not null,          -- number of the passage in its document, 0-based
    title text not null,
    text text not null
);
create index passages_by_document on passages (document);

create table teachers (             -- who wrote rationales: a model with instructions and sampling, or a file
    id text primary key,            -- hash of model, instructions, fields and sampling
    name text not null,             -- the name that commands take
    model text not null,            -- provider and model; 'recorded:NAME' for rationales from a file
    instructions text not null,     -- what the model is told
    sampling text not null,         -- JSON
    created text not null
);

create table rationales (           -- explanations of the right answer, one row per question, teacher and sample
    id integer primary key,
    question_id integer not null references questions (id) on delete cascade,
    teacher_id text not null references teachers (id),
    sample integer not null,
    text text not null,             -- what the teacher wrote
    conclusion text,                -- letter of the option, or short answer, that the text concludes on, null for none
    accepted integer not null,      -- 1 when the conclusion is the right answer
    prompt_tokens integer not null default 0,
    completion_tokens integer not null default 0,
    cost real not null default 0,   -- US dollars
    milliseconds real not null default 0, -- time of the call
    created text not null,
    unique (question_id, teacher_id, sample)
);

create table failed_replies (       -- replies of a teacher that are no rationale; each was paid for, none trains
    id integer primary key,
    question_id integer not null references questions (id) on delete cascade,
    teacher_id text not null references teachers (id),
    sample integer not null,
    outcome text not null,          -- cut, refused, empty, unreadable or too long
    text text not null,             -- what was written
    prompt_tokens integer not null default 0,
    completion_tokens integer not null default 0,
    cost real not null default 0,   -- US dollars
    milliseconds real not null default 0, -- time of the call
    created text not null
);
create index failed_replies_by_question on failed_replies (question_id, teacher_id, sample);

create table retrievals (           -- BM25 searches: with a question, or with a rationale of it
    id integer primary key,
    index_id text not null references indexes (id),
    question_id integer not null references questions (id) on delete cascade,
    rationale_id integer references rationales (id) on delete cascade,
    query text not null check (query in ('question', 'rationale')), -- what was searched with
    depth integer not null,         -- passages that the query asked for
    milliseconds real not null,
    created text not null,
    form text not null default 'question', -- form of the question's query, by the setting retrieval.query
    rationale_form text not null default 'rationale', -- form of a rationale's query, by retrieval.rationale_query
    max_df real not null default 1, -- share of passages; query terms that occur in more of them were dropped
    check ((query = 'rationale') = (rationale_id is not null))
);
-- One search of a question or rationale on an index: another form or max_df replaces it, as a deeper one does, so that
-- nothing that is counted over searches mixes two of one question.
create unique index retrievals_by_question on retrievals (index_id, question_id) where rationale_id is null;
create unique index retrievals_by_rationale on retrievals (index_id, rationale_id)
    where rationale_id is not null;
create index retrievals_of_question on retrievals (question_id, query);

-- A question's hits are its first `depth` passages by BM25(question). A rationale's hits are its first `depth` passages by
-- BM25(rationale), then those of the question's first passages that are not among them, scored by the rationale too.
create table hits (                 -- passages of a search; a rationale's are followed by the question's, scored alike
    retrieval_id integer not null references retrievals (id) on delete cascade,
    rank integer not null,          -- 1 is best by bm25
    passage_id text not null references passages (id),
    bm25 real not null,             -- BM25 of the search's query and the passage
    question_rank integer,          -- rank in the question's own list, null when beyond its depth
    primary key (retrieval_id, rank)
) without rowid;
create index hits_by_passage on hits (passage_id);

create table rerankers (            -- trained rerankers; their adapters lie beside the store
    id text primary key,            -- hash of base weights, data and settings
    task text not null,
    base text not null,
    base_sha256 text not null,
    index_id text not null references indexes (id),
    experiment text not null default '', -- name of the comparison that it was trained for, '' for a task's own
    settings text not null,
    data_sha256 text not null,      -- hash of the rationales and candidates that it was trained on
    recipe text not null default '{}', -- JSON: all that went into it; its hash is the id
    questions integer not null,     -- number of questions that it was trained on
    metrics text not null,          -- JSON: loss of each step, Hits@k on held-out questions before and after
    path text not null,             -- folder of the adapter, relative to the store's own folder
    sha256 text not null,
    milliseconds real not null,
    created text not null
);

create table rerank_scores (        -- a question's hits in the order of a reranker
    reranker_id text not null references rerankers (id) on delete cascade,
    retrieval_id integer not null references retrievals (id) on delete cascade,
    rank integer not null,          -- 1 is best by the reranker
    passage_id text not null references passages (id),
    score real not null,            -- comparable only within one retrieval
    primary key (reranker_id, retrieval_id, rank)
) without rowid;
create index rerank_scores_by_passage on rerank_scores (passage_id);

create table retrievers (           -- ways to order passages other than BM25 or a reranker alone
    id text primary key,            -- hash of everything that decides the order
    kind text not null check (kind in ('fused', 'dense', 'hybrid')), -- fused, dense or hybrid
    base text not null,             -- the encoder
    base_sha256 text not null,
    reranker_id text references rerankers (id) on delete cascade, -- whose adapter the encoder has, null for the base alone
    settings text not null,         -- JSON: how texts are encoded, or how two orders become one
    metrics text not null default '{}', -- JSON: on the held-out questions that the settings were chosen on
    milliseconds real not null,
    created text not null
);
create index retrievers_of_reranker on retrievers (reranker_id);

create table rankings (             -- one question's passages in the order of a retriever
    id integer primary key,
    retriever_id text not null references retrievers (id) on delete cascade,
    index_id text not null references indexes (id),
    question_id integer not null references questions (id) on delete cascade,
    depth integer not null,         -- passages that were ordered or asked for
    milliseconds real not null,
    created text not null,
    unique (retriever_id, index_id, question_id)
);
create index rankings_of_question on rankings (question_id);

create table ranked (               -- the passages of a ranking
    ranking_id integer not null references rankings (id) on delete cascade,
    rank integer not null,
    passage_id text not null references passages (id),
    score real not null,            -- comparable only within one ranking
    primary key (ranking_id, rank)
) without rowid;
create index ranked_by_passage on ranked (passage_id);

create table students (             -- trained students, prompted bases and rules; adapters lie beside the store
    id text primary key,            -- hash of base weights, method, data and settings
    task text not null,
    method text not null,
    size text not null,
    base text not null,
    base_sha256 text not null,
    settings text not null,
    data_sha256 text not null,      -- hash of the training examples
    recipe text not null default '{}', -- JSON: all that went into it; its hash is the id
    seed integer not null,
    examples integer not null,      -- number of training examples; one that is shown in several orders counts once
    tokens integer not null,        -- tokens of prompts and targets in training
    loss real not null,             -- mean of the last epoch
    path text not null,             -- folder of the adapter, relative to the store's own folder
    sha256 text not null,
    milliseconds real not null,
    cut real not null default 0,    -- share of the training prompts that lost passage text
    target_tokens integer not null default 0, -- tokens of the longest target; 0 for a base that is only prompted
    long_targets integer not null default 0, -- targets of more than student.max_target tokens
    created text not null
);

create table evaluations (          -- conditions: a student, a source of passages, a way of decoding
    id integer primary key,
    task text not null,
    split text not null,
    student_id text not null references students (id) on delete cascade,
    retriever text not null,
    index_id text references indexes (id),
    reranker_id text references rerankers (id) on delete cascade,
    retriever_id text references retrievers (id) on delete cascade,
    k integer not null,
    kappa integer,
    form text not null default 'question', -- of the query that found the passages; 'none' where nothing is read
    max_df real,                    -- share of passages above which query terms were dropped; null where nothing is read
    teacher_id text references teachers (id), -- whose rationales found silver passages; null for any, or elsewhere
    accept text,                    -- rule by which these rationales were accepted; null where they are not read
    decoding text not null,         -- JSON; see settings.md
    hash text not null unique,      -- of everything that decides the answers
    created text not null
);

create table predictions (          -- answers of students, one row per question and condition: the vote over its samples
    id integer primary key,
    evaluation_id integer not null references evaluations (id) on delete cascade,
    question_id integer not null references questions (id) on delete cascade,
    answer text,                    -- letter or short answer, null when none could be read from any sample
    correct integer not null,       -- 1 when it is the right answer (exact match of a short one), 0 also when it is null
    f1 real,                        -- F1 of a short answer's words and the right one's, null for questions with options
    votes integer not null,         -- samples with this answer
    passages text not null,         -- JSON list of the ids of the passages in the prompt, in their order
    milliseconds real not null,
    flops real not null,            -- 2 x parameters x tokens, prompt and generated
    created text not null,
    unique (evaluation_id, question_id)
);
create index predictions_by_question on predictions (question_id);

create table samples (              -- the texts that students wrote
    prediction_id integer not null references predictions (id) on delete cascade,
    sample integer not null,
    text text not null,             -- what the student wrote, with `Answer:` and an option appended where one was forced
    answer text,                    -- letter or short answer that was read from the text, null when none could be
    forced text,                    -- why `Answer:` was appended: 'budget' at the last token, 'unread' where no option was named; without options, 'budget' where the text ended so
    cut integer not null default 0, -- 1 when the prompt lost passage text
    shares text,                    -- JSON list, of each option in the answer; null when the answer was read from the text
    prompt_tokens integer not null,
    completion_tokens integer not null,
    primary key (prediction_id, sample),
    check (forced in ('budget', 'unread'))
) without rowid;

create table verifiers (            -- models that read a rationale and name the option that follows from it
    id text primary key,            -- hash of model, instructions and sampling
    name text not null,             -- the name that commands take
    model text not null,            -- provider and model
    instructions text not null,     -- what the model is told
    sampling text not null,         -- JSON
    created text not null
);

create table verifications (        -- a verifier's opinion on a rationale
    rationale_id integer not null references rationales (id) on delete cascade,
    verifier_id text not null references verifiers (id),
    answer text,                    -- letter that the verifier read from the rationale, null when its reply names none
    agrees integer not null,        -- 1 when that is the right answer
    reply text not null,            -- what the verifier wrote
    prompt_tokens integer not null,
    completion_tokens integer not null,
    cost real not null,             -- US dollars; 0 where the price is not known
    milliseconds real not null,     -- time of the call
    created text not null,
    primary key (rationale_id, verifier_id)
);
create index verifications_of_verifier on verifications (verifier_id);

-- Nothing that was made from a text outlives the text, whichever program changes it. What was trained on it stays: its
-- recipe says so. What was paid for is judged again where only the right answer is another: here by equality, by
-- `kard load --replace` as short answers are graded.
create trigger questions_changed after update of text, options, answer on questions
when old.text is not new.text or old.options is not new.options or old.answer is not new.answer begin
    delete from retrievals where question_id = old.id;
    delete from rankings where question_id = old.id;
    delete from predictions where question_id = old.id;
    delete from judgements where question_id = old.id and passage_id is not null;
    update rationales set accepted = coalesce(conclusion = new.answer, 0)
    where question_id = old.id and old.answer is not new.answer;
    update verifications set agrees = coalesce(answer = new.answer, 0)
    where old.answer is not new.answer and rationale_id in (select id from rationales where question_id = old.id);
end;
create trigger rationales_changed after update of text on rationales when old.text is not new.text begin
    delete from retrievals where rationale_id = old.id;
    delete from verifications where rationale_id = old.id;
    delete from judgements where rationale_id = old.id;
end;
-- Many programs leave foreign keys off, and ids of deleted rows are given again: no row outlives the one it belongs to.
create trigger questions_delete after delete on questions begin
    delete from evidence where question_id = old.id;
    delete from fact_passages where question_id = old.id;
    delete from rationales where question_id = old.id;
    delete from failed_replies where question_id = old.id;
    delete from retrievals where question_id = old.id;
    delete from rankings where question_id = old.id;
    delete from predictions where question_id = old.id;
    delete from judgements where question_id = old.id;
    delete from overlaps where old.id in (question_id, other_question_id);
    delete from overlap_checks where question_id = old.id;
end;
create trigger rationales_delete after delete on rationales begin
    delete from retrievals where rationale_id = old.id;
    delete from verifications where rationale_id = old.id;
    delete from judgements where rationale_id = old.id;
end;
create trigger evaluations_delete after delete on evaluations begin
    delete from predictions where evaluation_id = old.id;
end;
create trigger retrievals_delete after delete on retrievals begin
    delete from hits where retrieval_id = old.id;
    delete from rerank_scores where retrieval_id = old.id;
end;
create trigger rankings_delete after delete on rankings begin
    delete from ranked where ranking_id = old.id;
end;
create trigger predictions_delete after delete on predictions begin
    delete from samples where prediction_id = old.id;
end;

create table judgements (           -- what people say of a passage that was found, or of a rationale
    id integer primary key,
    question_id integer not null references questions (id) on delete cascade,
    passage_id text references passages (id),
    rationale_id integer references rationales (id) on delete cascade,
    verdict text not null check (verdict in ('good', 'bad')), -- good or bad
    note text not null default '',  -- why, in the author's words
    author text not null default '',
    created text not null,
    check ((passage_id is null) <> (rationale_id is null))
);
create unique index judgements_of_passages on judgements (question_id, passage_id, author)
    where passage_id is not null;
create unique index judgements_of_rationales on judgements (rationale_id, author) where rationale_id is not null;
create index judgements_by_passage on judgements (passage_id);

create table overlaps (             -- held-out questions whose text stands in a training question or a passage
    id integer primary key,
    question_id integer not null references questions (id) on delete cascade,
    other_question_id integer references questions (id) on delete cascade,
    passage_id text references passages (id) on delete cascade,
    kind text not null,             -- 'text' when the whole question stands there, else 'ngrams'
    share real not null,            -- share of the question's n-grams that stand there, 0 to 1
    created text not null,
    check ((other_question_id is null) <> (passage_id is null))
);
create unique index overlaps_with_questions on overlaps (question_id, other_question_id)
    where other_question_id is not null;
create unique index overlaps_with_passages on overlaps (question_id, passage_id) where passage_id is not null;
create index overlaps_by_other_question on overlaps (other_question_id);
create index overlaps_by_passage on overlaps (passage_id);

create table overlap_checks (       -- held-out questions that were checked for overlaps, with and without a result
    question_id integer primary key references questions (id) on delete cascade,
    against text not null,          -- hash of the training questions and passages that were searched
    created text not null
);
-- No overlap outlives its check.
create trigger overlap_checks_delete after delete on overlap_checks begin
    delete from overlaps where question_id = old.question_id;
end;

create table claims (               -- work that a process has begun: others leave it alone until it is done
    kind text not null,             -- kind of work, and whose
    key text not null,              -- which piece of it
    owner text not null,            -- the process: machine, number and a random part
    expires real not null,          -- when the claim ends unless it is renewed, in seconds since 1970
    primary key (kind, key)
) without rowid;

create table steps_log (            -- what each step added, and when
    id integer primary key,
    task text not null,
    step text not null,
    started text not null,          -- UTC
    milliseconds real not null,
    added integer not null,         -- rows that the step added
    note text not null default ''   -- what else there is to say
);

-- Full-text search: `... where passages_fts match 'word'`. External content: an index holds words and places, never the
-- text again. Triggers keep it equal to its table, whichever program writes. `content=` is written as datasette and
-- sqlite-utils look for it. Rowids of tables with an index of their own survive VACUUM (a test holds that).

create virtual table questions_fts using fts5 (
    text, content="questions", tokenize='porter unicode61 remove_diacritics 2'
);
create trigger questions_fts_insert after insert on questions begin
    insert into questions_fts (rowid, text) values (new.rowid, new.text);
end;
create trigger questions_fts_delete after delete on questions begin
    insert into questions_fts (questions_fts, rowid, text) values ('delete', old.rowid, old.text);
end;
create trigger questions_fts_update after update of text on questions begin
    insert into questions_fts (questions_fts, rowid, text) values ('delete', old.rowid, old.text);
    insert into questions_fts (rowid, text) values (new.rowid, new.text);
end;

create virtual table rationales_fts using fts5 (
    text, content="rationales", tokenize='porter unicode61 remove_diacritics 2'
);
create trigger rationales_fts_insert after insert on rationales begin
    insert into rationales_fts (rowid, text) values (new.rowid, new.text);
end;
create trigger rationales_fts_delete after delete on rationales begin
    insert into rationales_fts (rationales_fts, rowid, text) values ('delete', old.rowid, old.text);
end;
create trigger rationales_fts_update after update of text on rationales begin
    insert into rationales_fts (rationales_fts, rowid, text) values ('delete', old.rowid, old.text);
    insert into rationales_fts (rowid, text) values (new.rowid, new.text);
end;

create virtual table passages_fts using fts5 (
    title, text, content="passages", tokenize='porter unicode61 remove_diacritics 2'
);
create trigger passages_fts_insert after insert on passages begin
    insert into passages_fts (rowid, title, text) values (new.rowid, new.title, new.text);
end;
create trigger passages_fts_delete after delete on passages begin
    insert into passages_fts (passages_fts, rowid, title, text) values ('delete', old.rowid, old.title, old.text);
end;
create trigger passages_fts_update after update of title, text on passages begin
    insert into passages_fts (passages_fts, rowid, title, text) values ('delete', old.rowid, old.title, old.text);
    insert into passages_fts (rowid, title, text) values (new.rowid, new.title, new.text);
end;
