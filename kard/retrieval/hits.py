"""Retrievals into the store: hits, and once each the passages that they name."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from sqlite_utils import Database

from kard.db import batches, insert_ignoring, marks, now, writing
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.records import Passage

THREADS = min(4, os.cpu_count() or 1)  # searches at a time; Tantivy's work runs outside the interpreter lock
Unit = TypeVar("Unit")
Made = TypeVar("Made")

RETRIEVAL = """
insert into retrievals (id, index_id, question_id, rationale_id, query, depth, milliseconds, created)
values (?, ?, ?, ?, ?, ?, ?, ?)
"""
HIT = "insert into hits (retrieval_id, rank, passage_id, bm25, question_rank) values (?, ?, ?, ?, ?)"
REPLACED = "delete from retrievals where index_id = ? and question_id = ? and rationale_id is ?"


@dataclass(frozen=True, slots=True)
class Found:
    """One retrieval, by the rowids of the base. `hits`: (rowid, bm25, rank in the question's list)."""

    question: int
    rationale: int | None
    depth: int
    milliseconds: float
    hits: Sequence[tuple[int, float, int | None]]


class Writer:
    """Writes retrievals of one base into a store, a batch a transaction."""

    def __init__(self, db: Database, kb: KnowledgeBase) -> None:
        self._db = db
        self._kb = kb
        self._ids: dict[int, str] = {}  # of the passages that this run has written or met, by rowid

    def write(self, found: Sequence[Found]) -> None:
        """Write these retrievals whole, in place of shallower ones, or none of them."""
        db, index, created = self._db, self._kb.id, now()
        with writing(db):
            self._copy({rowid for f in found for rowid, _, _ in f.hits})
            db.conn.executemany(REPLACED, [(index, f.question, f.rationale) for f in found])
            (last,) = db.execute("select coalesce(max(id), 0) from retrievals").fetchone()
            rows = list(enumerate(found, int(last) + 1))
            db.conn.executemany(
                RETRIEVAL,
                [
                    (key, index, f.question, f.rationale, _kind(f), f.depth, f.milliseconds, created)
                    for key, f in rows
                ],
            )
            db.conn.executemany(HIT, [hit for key, f in rows for hit in self._hits(key, f)])

    def _hits(self, key: int, found: Found) -> Iterator[tuple[int, int, str, float, int | None]]:
        # A passage that a later `kard index` removed while this ran has no id any more.
        there = [(self._ids[r], bm25, place) for r, bm25, place in found.hits if r in self._ids]
        for rank, (passage, bm25, place) in enumerate(there, 1):
            yield key, rank, passage, bm25, place

    def _copy(self, rowids: set[int]) -> None:
        new = [r for r in rowids if r not in self._ids]
        ids = self._kb.ids(new)
        have: set[str] = set()
        for some in batches(list(ids.values())):
            query = f"select id from passages where id in ({marks(some)})"
            have.update(i for (i,) in self._db.execute(query, list(some)))
        copy_passages(self._db, self._kb.passages([i for i in ids.values() if i not in have]))
        self._ids.update(ids)


def copy_passages(db: Database, passages: Iterable[Passage]) -> int:
    """Write down the passages that the store lacks; how many those were."""
    columns = ("id", "document", "part", "title", "text")
    return insert_ignoring(db, "passages", [{c: getattr(p, c) for c in columns} for p in passages])


def prefetch(make: Callable[[Unit], Made], units: Sequence[Unit], size: int) -> Iterator[list[Made]]:
    """`make` of every unit, `size` at a time and in order, worked out in threads while the caller writes."""
    stream = iter(units)
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[list[Future[Made]]] = deque()
        try:
            while some := list(islice(stream, size)):
                waiting.append([pool.submit(make, unit) for unit in some])
                if len(waiting) > 2:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]
        finally:
            for future in (f for some in waiting for f in some):
                future.cancel()


def _kind(found: Found) -> str:
    return "question" if found.rationale is None else "rationale"
