"""A knowledge base: a folder with the passages' text (SQLite) and their postings (Tantivy), read only.

One Wikipedia serves many stores. `kard index` writes it (indexing.py); everything else reads it here.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from kard.db import batches, marks
from kard.errors import Missing
from kard.knowledge import passages_db as texts
from kard.knowledge.bm25 import Postings
from kard.records import Hit, Passage

POSTINGS = "tantivy"


class KnowledgeBase:
    """BM25 search over passages (k1=1.2, b=0.75). Reads the state that was current when it was opened.

    Safe to share between threads: searching runs in parallel, reading text does not.
    """

    def __init__(self, folder: Path, db: sqlite3.Connection, postings: Postings) -> None:
        self.folder = folder
        self.postings = postings
        self.count = postings.count
        self.id = texts.meta(db, "id")
        self.analyser = texts.meta(db, "analyser")
        self._db = db
        self._lock = threading.Lock()

    @classmethod
    def open(cls, folder: Path) -> KnowledgeBase:
        """The knowledge base in `folder`. Raises Missing when there is none, or a half-written one."""
        build = f"kard index SOURCE --knowledge {folder}"
        path = folder / texts.NAME
        if not path.exists():
            raise Missing(f"no knowledge base in {folder}; build one with: {build}")
        try:
            db = texts.connect(path)
            known, pending = texts.meta(db, "id"), texts.meta(db, "pending")
        except sqlite3.DatabaseError as error:
            raise Missing(f"cannot read {path} ({error}); build it again with: {build}") from error
        if not known:
            db.close()
            raise Missing(f"the knowledge base in {folder} is empty; fill it with: {build}")
        try:
            postings = Postings(folder / POSTINGS)
        except ValueError as error:
            db.close()
            raise Missing(f"no postings in {folder / POSTINGS}; write them again with: {build}") from error
        if pending or postings.count != int(texts.meta(db, "count", "0")):
            db.close()
            raise Missing(f"the knowledge base in {folder} is only half written; finish it with: {build}")
        return cls(folder, db, postings)

    def search(self, text: str, k: int, *, max_df: float = 0.05) -> list[Hit]:
        """The `k` best passages for the text, best first; fewer when fewer hold any of its words.

        Any text will do: it is prose, never query syntax. Terms in more than `max_df` of all passages do not
        count unless there are no others.
        """
        found = self.find(text, k, max_df=max_df)
        passages = self._read("rowid", [rowid for rowid, _ in found])
        hits = [(passages[rowid], score) for rowid, score in found if rowid in passages]
        return [Hit(passage, rank, score) for rank, (passage, score) in enumerate(hits, 1)]

    def score(self, text: str, passages: Sequence[str], *, max_df: float = 0.05) -> dict[str, float]:
        """BM25(text, passage) of each of these passage ids: what `search` gives them, 0.0 without a common term.

        An id that is not in the base is left out.
        """
        rowids = self.rowids(passages)
        scores = self.weigh(text, list(rowids.values()), max_df=max_df)
        return {passage: scores.get(rowid, 0.0) for passage, rowid in rowids.items()}

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        """The passages with these ids, in this order; ids that are not in the base are left out."""
        found = {p.id: p for p in self._read("id", ids).values()}
        return [found[i] for i in ids if i in found]

    def of_documents(self, keys: Sequence[str]) -> list[Passage]:
        """Every passage of these documents, document by document in this order, parts in theirs."""
        order = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        found = self._read("document", list(order)).values()
        return sorted(found, key=lambda p: (order[p.document], p.part, p.id))

    def find(self, text: str, k: int, *, max_df: float = 0.05) -> list[tuple[int, float]]:
        """As `search`, without the text: rowids of this base and their scores."""
        query = self.postings.query(text, max_df)
        return [] if query is None else self.postings.top(query, k)

    def weigh(self, text: str, rowids: Sequence[int], *, max_df: float = 0.05) -> dict[int, float]:
        """As `score`, by rowid."""
        query = self.postings.query(text, max_df)
        return {} if query is None else self.postings.scores(query, rowids)

    def find_among(self, text: str, k: int, rowids: Sequence[int], *, max_df: float = 0.05) -> dict[int, float]:
        """The scores of the `k` best rowids and of these ones too; the text is analysed once."""
        query = self.postings.query(text, max_df)
        if query is None:
            return dict.fromkeys(rowids, 0.0)
        scores = dict(self.postings.top(query, k))
        others = [rowid for rowid in rowids if rowid not in scores]
        return {**dict.fromkeys(others, 0.0), **scores, **self.postings.scores(query, others)}

    def ids(self, rowids: Iterable[int]) -> dict[int, str]:
        """Passage ids by rowid."""
        return dict(self._pairs("rowid", list(rowids)))

    def rowids(self, ids: Sequence[str]) -> dict[str, int]:
        """Rowids by passage id, in the order of the ids; ids that are not in the base are left out."""
        found = {i: rowid for rowid, i in self._pairs("id", ids)}
        return {i: found[i] for i in ids if i in found}

    def passage_ids(self) -> list[str]:
        """Return the ids of all passages."""
        with self._lock:
            return [passage for (passage,) in self._db.execute("select id from passages")]

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _pairs(self, column: str, values: Sequence[object]) -> list[tuple[int, str]]:
        pairs: list[tuple[int, str]] = []
        for some in batches(values):
            query = f"select rowid, id from passages where {column} in ({marks(some)})"
            with self._lock:
                pairs.extend(self._db.execute(query, some).fetchall())
        return pairs

    def _read(self, column: str, values: Sequence[object]) -> dict[int, Passage]:
        with self._lock:
            return dict(texts.passages_where(self._db, column, values))
