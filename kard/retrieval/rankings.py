"""Write ranked passages to the store: BM25's hits, and the orders that other retrievers give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlite_utils import Database

from kard.config import QueryForm, Retrieval
from kard.db import insert_ignoring, now, rows, sql, writing
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.questions import Query, QuestionSet, query_of_row
from kard.records import Passage, canonical, digest

INSERT_HIT = "insert into hits (retrieval_id, rank, passage_id, bm25, question_rank) values (?, ?, ?, ?, ?)"
INSERT_RANKED = "insert into ranked (ranking_id, rank, passage_id, score) values (?, ?, ?, ?)"
DELETE_RETRIEVAL = "delete from retrievals where index_id = ? and question_id = ? and rationale_id is ?"
DELETE_RANKING = "delete from rankings where retriever_id = ? and index_id = ? and question_id = ?"


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What one BM25 search found; it becomes a row of `retrievals` with its `hits`."""

    question: int  # row id
    rationale: int | None  # row id of the rationale that was searched with; None for the question itself
    depth: int
    milliseconds: float
    hits: Sequence[tuple[int, float, int | None]]  # rowid in the knowledge base, BM25, rank in the question's list


def drop_searches(db: Database, index_id: str, searches: Sequence[tuple[int, int | None]]) -> None:
    """Drop what these questions, or these rationales of theirs, found in an index."""
    with writing(db):
        db.conn.executemany(DELETE_RETRIEVAL, [(index_id, *search) for search in searches])


class HitsWriter:
    """Writer of one knowledge base's search results into a store, a batch a transaction."""

    def __init__(self, db: Database, kb: KnowledgeBase, settings: Retrieval) -> None:
        self._db = db
        self._kb = kb
        self._settings = settings
        self._ids: dict[int, str] = {}  # passage ids by rowid, of the passages written or met so far

    def write(self, results: Sequence[SearchResult]) -> None:
        """Write all of these results, or none if that fails. Each replaces one of another form or depth."""
        db, index_id, created = self._db, self._kb.id, now()
        with writing(db):
            self._copy({rowid for result in results for rowid, _, _ in result.hits})
            drop_searches(db, index_id, [(r.question, r.rationale) for r in results])
            (last,) = db.execute("select coalesce(max(id), 0) from retrievals").fetchone()
            numbered = list(enumerate(results, int(last) + 1))
            retrievals = [
                {
                    "id": retrieval_id,
                    "index_id": index_id,
                    "question_id": result.question,
                    "rationale_id": result.rationale,
                    "query": "question" if result.rationale is None else "rationale",
                    "form": self._settings.query,
                    "rationale_form": self._settings.rationale_query,
                    "max_df": self._settings.max_df_among(self._kb.count),
                    "depth": result.depth,
                    "milliseconds": result.milliseconds,
                    "created": created,
                }
                for retrieval_id, result in numbered
            ]
            db.conn.executemany(sql("internal/insert_retrieval"), retrievals)
            db.conn.executemany(INSERT_HIT, [hit for number, r in numbered for hit in self._hits(number, r)])

    def _hits(self, retrieval_id: int, result: SearchResult) -> Iterator[tuple[int, int, str, float, int | None]]:
        # A passage that a later `kard index` removed while this ran has no id any more.
        present = [(self._ids[r], bm25, place) for r, bm25, place in result.hits if r in self._ids]
        for rank, (passage_id, bm25, place) in enumerate(present, 1):
            yield retrieval_id, rank, passage_id, bm25, place

    def _copy(self, rowids: set[int]) -> None:
        """Copy to the store those of these passages that it lacks, and remember the ids of all."""
        ids = self._kb.ids([r for r in rowids if r not in self._ids])
        stored = {row["id"] for row in rows(self._db, "internal/stored_passage_ids", ids=list(ids.values()))}
        copy_passages(self._db, self._kb.passages([i for i in ids.values() if i not in stored]))
        self._ids.update(ids)


def copy_passages(db: Database, passages: Iterable[Passage]) -> int:
    """Write the passages that the store lacks; return how many they were."""
    columns = ("id", "document", "part", "title", "text")
    return insert_ignoring(db, "passages", [{c: getattr(p, c) for c in columns} for p in passages])


@dataclass(frozen=True, slots=True)
class Retriever:
    """What orders passages: a row of `retrievers`."""

    kind: str  # fused, dense or hybrid
    base: str
    base_sha256: str
    reranker_id: str | None  # the reranker that gives scores or vectors, if any
    settings: dict[str, object]

    @property
    def id(self) -> str:
        """Return the hash of all that decides the order; the base counts by its weights, not by its name."""
        return digest(self.kind, self.base_sha256, self.reranker_id or "", canonical(self.settings))


@dataclass(frozen=True, slots=True)
class Ranking:
    """A question's passages, best first; a row of `rankings`."""

    question: int  # row id
    passages: Sequence[tuple[str, float]]  # passage id and score
    milliseconds: float


def write_retriever(db: Database, retriever: Retriever, metrics: dict[str, object], milliseconds: float) -> str:
    """Write the retriever, or make it the newest of its kind if it is there; return its id."""
    row = {
        "id": retriever.id,
        "kind": retriever.kind,
        "base": retriever.base,
        "base_sha256": retriever.base_sha256,
        "reranker_id": retriever.reranker_id,
        "settings": canonical(retriever.settings),
        "metrics": canonical(metrics),
        "milliseconds": milliseconds,
        "created": now(),
    }
    with writing(db):
        db.table("retrievers").upsert(row, pk="id")
    return retriever.id


def unranked(
    db: Database,
    retriever_id: str | None,
    index_id: str,
    questions: QuestionSet,
    depth: int,
    form: QueryForm = "question",
) -> list[tuple[int, Query]]:
    """Return row id and query of the questions that the retriever has not ordered to exactly this depth.

    The retriever's id says which form of the query it was made for.
    """
    values = {"retriever": retriever_id, "index": index_id, "depth": depth, **questions.parameters}
    return [(int(row["id"]), query_of_row(row, form)) for row in rows(db, "internal/questions_to_rank", **values)]


def write_rankings(db: Database, retriever_id: str, index_id: str, depth: int, rankings: Sequence[Ranking]) -> None:
    """Write all of these rankings, or none if that fails. Each replaces one of another depth.

    The store must hold their passages already.
    """
    created = now()
    with writing(db):
        for ranking in rankings:
            db.execute(DELETE_RANKING, [retriever_id, index_id, ranking.question])
            row = {
                "retriever_id": retriever_id,
                "index_id": index_id,
                "question_id": ranking.question,
                "depth": depth,
                "milliseconds": ranking.milliseconds,
                "created": created,
            }
            number = db.execute(sql("internal/insert_ranking"), row).lastrowid
            db.conn.executemany(
                INSERT_RANKED,
                [(number, rank, passage, score) for rank, (passage, score) in enumerate(ranking.passages, 1)],
            )
