"""Read a knowledge base: a folder with the passages' text (SQLite) and their postings (Tantivy).

One Wikipedia serves many stores. `kard index` writes it (indexing.py); everything else reads it here.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tantivy import Query

from kard.config import Retrieval
from kard.errors import Missing
from kard.knowledge import passages_db
from kard.knowledge.analysis import DEFAULT_LANGUAGE, analyser_name
from kard.knowledge.bm25 import Postings, indexed_text, repair_command
from kard.records import Hit, Passage

POSTINGS = "tantivy"
BUILD = "kard index SOURCE"
LOOKS, PAUSE = 5, 0.2  # seconds between looks at a base that somebody writes


class KnowledgeBase:
    """BM25 search over passages (k1=1.2, b=0.75). Reads the state that was current when it was opened.

    Safe to share between threads: searching runs in parallel, reading text does not.
    """

    def __init__(
        self, folder: Path, db: sqlite3.Connection, postings: Postings, *, kb_id: str, language: str
    ) -> None:
        self.folder = folder
        self.postings = postings
        self.count = postings.count
        self.id = kb_id
        self.analyser = analyser_name(language)
        self._db = db
        self._lock = threading.Lock()

    @classmethod
    def open(cls, folder: Path) -> KnowledgeBase:
        """Open the knowledge base in `folder` as it was last completely written. Raises Missing."""
        path = folder / passages_db.NAME
        if not path.exists():
            raise Missing(f"no knowledge base in {folder}; build one with: {BUILD} --knowledge {folder}")
        for _ in range(LOOKS):
            try:
                if kb := cls._open(folder, path):
                    return kb
            except sqlite3.DatabaseError as error:
                if "locked" in str(error):
                    raise Missing(
                        f"the knowledge base in {folder} is being written; wait until that ends"
                    ) from error
                repair = repair_command(folder)
                raise Missing(f"cannot read {path} ({error}); take what can be read with: {repair}") from error
            time.sleep(PAUSE)
        repair = repair_command(folder)
        raise Missing(f"passages and postings in {folder} do not fit together; mend that with: {repair}")

    @classmethod
    def _open(cls, folder: Path, path: Path) -> KnowledgeBase | None:
        """Open it; None if passages and postings are of different states, as while somebody writes them."""
        db = passages_db.connect(path)
        kb = None
        try:
            kb_id, pending = passages_db.meta(db, "id"), passages_db.meta(db, "pending")
            language = passages_db.meta(db, "language", DEFAULT_LANGUAGE)
            count, before = passages_db.meta(db, "count", "0"), None
            postings = Postings(folder / POSTINGS, language) if kb_id else None
            if postings and pending and not passages_db.followed(db, postings.holds):
                kb_id, before = passages_db.meta(db, "before_id"), int(pending)
                count = passages_db.meta(db, "before_count", "0")
            if not (postings and kb_id):
                problem = f"the knowledge base in {folder} is empty, or being written for the first time"
                raise Missing(f"{problem}; fill it with: {BUILD} --knowledge {folder}")
            if postings.count == int(count):
                passages_db.show_current(db, before=before)
                kb = cls(folder, db, postings, kb_id=kb_id, language=language)
            return kb
        finally:
            if kb is None:
                db.close()

    def search(self, text: str | Sequence[str], k: int, *, max_df: float | None = None) -> list[Hit]:
        """Return the `k` best passages for the text, best first; fewer if fewer hold any of its words.

        Any text will do: it is prose, never query syntax. Terms in more than `max_df` of all passages do not
        count unless there are no others; None means the default for a knowledge base of this size. Of several
        texts each is searched with, and a passage has the best score that one of them gives it.
        """
        scores = self.search_rowids(text, k, max_df=max_df)
        with self._lock:
            stored = passages_db.rows_by_rowid(self._db, [rowid for rowid, _ in scores])
        hits = [(stored[rowid], score) for rowid, score in scores if rowid in stored]
        return [Hit(Passage(*row[1:]), rank, score) for rank, (row, score) in enumerate(hits, 1)]

    def score(self, text: str, passages: Sequence[str], *, max_df: float | None = None) -> dict[str, float]:
        """Return BM25(text, passage) of each of these passage ids, as `search` gives it; 0.0 without a common term.

        An id that the knowledge base does not hold is left out.
        """
        rowids = self.rowids(passages)
        scores = self.score_rowids(text, list(rowids.values()), max_df=max_df)
        return {passage: scores.get(rowid, 0.0) for passage, rowid in rowids.items()}

    def matched_words(
        self, text: str, passages: Sequence[Passage], *, max_df: float | None = None
    ) -> list[list[str]]:
        """Return for each passage the words of the text that BM25 finds in it, as the text has them."""
        counted = {term for term, _ in self.postings.counted(text, self._share(max_df))}
        terms = {word: counted & self.postings.terms(word).keys() for word in re.findall(r"\w+", text)}
        held = [self.postings.terms(indexed_text(p.title, p.text)).keys() for p in passages]
        return [[word for word, stems in terms.items() if stems & of_passage] for of_passage in held]

    def knows(self, text: str, max_df: float) -> bool:
        """Return whether a passage holds a word of the text that is in no more than `max_df` of the passages."""
        return self.postings.holds_rare(text, max_df)

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        """Return the passages of these ids, in this order; ids that the knowledge base lacks are left out."""
        passages = {passage.id: passage for passage in self._read("id", ids).values()}
        return [passages[i] for i in ids if i in passages]

    def of_documents(self, keys: Sequence[str]) -> list[Passage]:
        """Return every passage of these documents, in the order of the documents and of their parts."""
        order = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        passages = self._read("document", list(order)).values()
        return sorted(passages, key=lambda p: (order[p.document], p.part, p.id))

    def search_rowids(
        self, text: str | Sequence[str], k: int, *, max_df: float | None = None
    ) -> list[tuple[int, float]]:
        """Return rowids and scores of the `k` best passages, best first; no text is read."""
        best: dict[int, float] = {}
        for one in dict.fromkeys([text] if isinstance(text, str) else text):
            query = self._query(one, max_df)
            for rowid, score in [] if query is None else self.postings.top(query, k):
                best[rowid] = max(score, best.get(rowid, score))
        return sorted(best.items(), key=lambda hit: (-hit[1], hit[0]))[:k]

    def score_rowids(self, text: str, rowids: Sequence[int], *, max_df: float | None = None) -> dict[int, float]:
        """Return BM25(text, passage) by rowid, without the passages that share no term with the text."""
        query = self._query(text, max_df)
        return {} if query is None else self.postings.scores(query, rowids)

    def search_and_score_rowids(
        self, text: str, k: int, rowids: Sequence[int], *, max_df: float | None = None
    ) -> dict[int, float]:
        """Return the scores of the `k` best rowids and of these rowids; the text is analysed once."""
        query = self._query(text, max_df)
        if query is None:
            return dict.fromkeys(rowids, 0.0)
        scores = dict(self.postings.top(query, k))
        others = [rowid for rowid in rowids if rowid not in scores]
        return {**dict.fromkeys(others, 0.0), **scores, **self.postings.scores(query, others)}

    def ids(self, rowids: Iterable[int]) -> dict[int, str]:
        """Return passage ids by rowid."""
        with self._lock:
            return dict(passages_db.ids_where(self._db, "rowid", list(rowids)))

    def rowids(self, ids: Sequence[str]) -> dict[str, int]:
        """Return rowids by passage id, in the order of the ids; ids that the knowledge base lacks are left out."""
        with self._lock:
            rowids = {passage: rowid for rowid, passage in passages_db.ids_where(self._db, "id", ids)}
        return {i: rowids[i] for i in ids if i in rowids}

    def passage_ids(self) -> list[str]:
        """Return the ids of all passages."""
        with self._lock:
            return passages_db.passage_ids(self._db)

    def close(self) -> None:
        """Close the file of texts."""
        self._db.close()

    def _query(self, text: str, max_df: float | None) -> Query | None:
        return self.postings.query(text, self._share(max_df))

    def _share(self, max_df: float | None) -> float:
        return Retrieval().max_df_among(self.count) if max_df is None else max_df

    def _read(self, column: str, values: Sequence[object]) -> dict[int, Passage]:
        with self._lock:
            return passages_db.passages_where(self._db, column, values)
