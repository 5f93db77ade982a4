"""Search the knowledge base by BM25 with questions and with rationales, and keep what is found (section 3.3).

A question's hits are the candidates that the reranker orders and the student reads. A rationale names the facts
that its question only implies, so its words find better passages. To ground a rationale is to search with it. Its
passages teach the student what to read, and BM25(rationale, passage) teaches the reranker to find them from the
question alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TypeVar

from sqlite_utils import Database

from kard.acceptance import require_verdicts
from kard.config import Accept, Retrieval
from kard.db import insert_ignoring, now, rows
from kard.errors import Missing
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.processes import available
from kard.progress import SILENT, Progress
from kard.questions import Query, QuestionSet, query_of_rationale, query_of_row
from kard.retrieval.rankings import HitsWriter, SearchResult, copy_passages

QUESTIONS_BATCH = 64  # questions a transaction
RATIONALES_BATCH = 32  # questions a transaction, each with all its rationales
EVIDENCE_BATCH = 900  # documents whose passages are in memory at a time
THREADS = min(4, available())  # searches at a time; Tantivy's work runs outside the interpreter lock
Item = TypeVar("Item")
Result = TypeVar("Result")


def index_id(kb: KnowledgeBase) -> str:
    """Return the id that `record_index` gives this state of the knowledge base, without writing anything."""
    return kb.id


def record_index(db: Database, kb: KnowledgeBase) -> str:
    """Write this state of the knowledge base to the store, unless it is there; return its id."""
    row = {
        "id": index_id(kb),
        "path": str(kb.folder.resolve()),
        "passages": kb.count,
        "analyser": kb.analyser,
        "created": now(),
    }
    insert_ignoring(db, "indexes", [row])
    return index_id(kb)


def copy_evidence(db: Database, kb: KnowledgeBase, task: str) -> int:
    """Write every passage of the documents that the task's questions name as evidence; return how many were new."""
    documents = [str(row["document"]) for row in rows(db, "internal/evidence_documents", task=task)]
    starts = range(0, len(documents), EVIDENCE_BATCH)
    return sum(copy_passages(db, kb.of_documents(documents[i : i + EVIDENCE_BATCH])) for i in starts)


def needed_documents(db: Database) -> frozenset[str]:
    """Return the documents that any question needs: its evidence, and where its facts stand. Raises Missing."""
    documents = frozenset(str(row["document"]) for row in rows(db, "internal/needed_documents"))
    if not documents:
        raise Missing(
            "no question of the store names evidence, or a fact that was found: kard run TASK looks for them"
        )
    return documents


def unsearched(db: Database, index_id: str, questions: QuestionSet, settings: Retrieval) -> list[tuple[int, Query]]:
    """Return row id and query of the questions without a retrieval of this form, max_df and depth on this index."""
    values = {"index": index_id, "depth": settings.kappa, **settings.forms, **questions.parameters}
    missing = rows(db, "internal/questions_to_search", **values)
    return [(int(row["id"]), query_of_row(row, settings.query)) for row in missing]


def retrieve(
    db: Database,
    kb: KnowledgeBase,
    questions: QuestionSet,
    settings: Retrieval,
    *,
    progress: Progress = SILENT,
) -> int:
    """Find the top kappa passages by BM25 of every question that lacks them; return the number of questions."""
    missing = unsearched(db, record_index(db, kb), questions, settings)

    def search(question: tuple[int, Query]) -> SearchResult:
        row_id, query = question
        started = time.perf_counter()
        scores = kb.search_rowids(query.texts, settings.kappa, max_df=settings.max_df_among(kb.count))
        milliseconds = (time.perf_counter() - started) * 1000
        hits = [(rowid, bm25, rank) for rank, (rowid, bm25) in enumerate(scores, 1)]
        return SearchResult(row_id, None, settings.kappa, milliseconds, hits)

    writer = HitsWriter(db, kb, settings)
    with progress.bar("Searching with questions", len(missing)) as advance:
        for results in prefetch(search, missing, QUESTIONS_BATCH):
            writer.write(results)
            advance(len(results))
    return len(missing)


@dataclass(frozen=True, slots=True)
class UngroundedQuestion:
    """A question with those of its rationales that lack passages."""

    question: int  # row id
    text: str
    query: Query
    rationales: Sequence[tuple[int, str]]  # row id and text


def ungrounded(
    db: Database,
    index_id: str,
    training: QuestionSet,
    settings: Retrieval,
    *,
    accept: Accept = "own",
    teacher_id: str | None = None,
) -> list[UngroundedQuestion]:
    """Return the questions whose rationales lack passages of these forms and this depth on this index.

    `training` is the split that is trained on. Only its first `limit` questions count, whether they lack anything
    or not, so that the same limit again asks for nothing more. Questions of other splits always count.
    Raises Missing if rationales of the teacher (None: of any) lack a verdict that `accept` asks for.
    """
    require_verdicts(db, training, accept, teacher_id)
    values = {"accept": accept, "index": index_id, "depth": settings.depth, **settings.forms, **training.parameters}
    lacking = rows(db, "internal/rationales_to_ground", **values)
    by_question = [list(group) for _, group in groupby(lacking, key=lambda row: row["question_id"])]
    return [
        UngroundedQuestion(
            of_question[0]["question_id"],
            of_question[0]["text"],
            query_of_row(of_question[0], settings.query),
            [(row["rationale_id"], row["rationale"]) for row in of_question],
        )
        for of_question in by_question
    ]


def ground(
    db: Database,
    kb: KnowledgeBase,
    training: QuestionSet,
    settings: Retrieval,
    *,
    accept: Accept = "own",
    teacher_id: str | None = None,
    only: Collection[int] | None = None,
    progress: Progress = SILENT,
) -> int:
    """Find the passages of every rationale that `ungrounded` names; return the number of rationales.

    With `only`, those of these questions. They are the top `depth` by BM25(rationale) and the question's own top
    `depth`, all in the order of BM25(rationale, passage).
    """
    questions = ungrounded(db, record_index(db, kb), training, settings, accept=accept, teacher_id=teacher_id)
    questions = [question for question in questions if only is None or question.question in only]
    total = sum(len(question.rationales) for question in questions)
    writer = HitsWriter(db, kb, settings)
    with progress.bar("Searching with rationales", total) as advance:
        for batch in prefetch(lambda q: ground_question(kb, q, settings), questions, RATIONALES_BATCH):
            results = [result for of_question in batch for result in of_question]
            writer.write(results)
            advance(len(results))
    return total


def ground_question(kb: KnowledgeBase, question: UngroundedQuestion, settings: Retrieval) -> list[SearchResult]:
    """Search with each of the question's rationales. The question itself is searched with once."""
    max_df = settings.max_df_among(kb.count)
    by_question = kb.search_rowids(question.query.texts, settings.depth, max_df=max_df)
    places = {rowid: rank for rank, (rowid, _) in enumerate(by_question, 1)}
    results: list[SearchResult] = []
    for row_id, text in question.rationales:
        started = time.perf_counter()
        query = query_of_rationale(question.text, text, settings.rationale_query)
        scores = kb.search_and_score_rowids(query, settings.depth, list(places), max_df=max_df)
        milliseconds = (time.perf_counter() - started) * 1000
        hits = [(rowid, bm25, places.get(rowid)) for rowid, bm25 in scores.items()]
        # Equal scores, such as those of passages without a common word, keep the question's own order.
        hits.sort(key=lambda hit: (-hit[1], hit[2] or settings.depth + 1, hit[0]))
        results.append(SearchResult(question.question, row_id, settings.depth, milliseconds, hits))
    return results


def prefetch(work: Callable[[Item], Result], items: Sequence[Item], size: int) -> Iterator[list[Result]]:
    """Yield `work` of every item in order, `size` at a time, computed in threads while the caller writes."""
    stream = iter(items)
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[list[Future[Result]]] = deque()
        try:
            while batch := list(islice(stream, size)):
                waiting.append([pool.submit(work, item) for item in batch])
                if len(waiting) > 2:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]
        finally:
            for future in (future for batch in waiting for future in batch):
                future.cancel()
