"""What a question's own words find: the candidates that the reranker orders and the student reads (section 3.3)."""

from __future__ import annotations

import time

from sqlite_utils import Database

from kard.config import Retrieval
from kard.db import batches, insert_ignoring, now
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.progress import SILENT, Progress
from kard.retrieval.hits import Found, Writer, copy_passages, prefetch

BATCH = 64  # questions a transaction

LACKING = """
select q.id, q.text from questions q
left join retrievals r on r.question_id = q.id and r.query = 'question' and r.index_id = :index
where coalesce(r.depth, 0) < :depth and q.id in (
    select id from questions where task = :task and (:split is null or split = :split) order by id limit :limit)
order by q.id
"""
EVIDENCE = """
select distinct e.document from evidence e join questions q on q.id = e.question_id
where q.task = :task order by e.document
"""


def record_index(db: Database, kb: KnowledgeBase) -> str:
    """Write down this state of the knowledge base, once; its id."""
    row = {
        "id": kb.id,
        "path": str(kb.folder.resolve()),
        "passages": kb.count,
        "analyser": kb.analyser,
        "created": now(),
    }
    insert_ignoring(db, "indexes", [row])
    return kb.id


def copy_evidence(db: Database, kb: KnowledgeBase, task: str) -> int:
    """Write down every passage of the documents that the task's questions name as evidence; how many were new."""
    keys = [str(key) for (key,) in db.execute(EVIDENCE, {"task": task})]
    return sum(copy_passages(db, kb.of_documents([str(k) for k in some])) for some in batches(keys))


def lacking(
    db: Database,
    index: str,
    task: str,
    settings: Retrieval,
    *,
    split: str | None = None,
    limit: int | None = None,
) -> list[tuple[int, str]]:
    """Id and text of those of the first `limit` questions that have no retrieval of this depth on this index."""
    values = {
        "index": index,
        "task": task,
        "split": split,
        "depth": settings.kappa,
        "limit": -1 if limit is None else limit,
    }
    return [(int(key), str(text)) for key, text in db.execute(LACKING, values)]


def retrieve(
    db: Database,
    kb: KnowledgeBase,
    task: str,
    settings: Retrieval,
    *,
    split: str | None = None,
    limit: int | None = None,
    progress: Progress = SILENT,
) -> int:
    """Find the top kappa passages by BM25(question) of every question that lacks them; how many questions did."""
    record_index(db, kb)
    questions = lacking(db, kb.id, task, settings, split=split, limit=limit)

    def search(question: tuple[int, str]) -> Found:
        key, text = question
        started = time.perf_counter()
        hits = kb.find(text, settings.kappa, max_df=settings.max_df)
        milliseconds = (time.perf_counter() - started) * 1000
        ranked = [(rowid, bm25, rank) for rank, (rowid, bm25) in enumerate(hits, 1)]
        return Found(key, None, settings.kappa, milliseconds, ranked)

    writer = Writer(db, kb)
    with progress.bar("Searching with questions", len(questions)) as advance:
        for found in prefetch(search, questions, BATCH):
            writer.write(found)
            advance(len(found))
    return len(questions)
