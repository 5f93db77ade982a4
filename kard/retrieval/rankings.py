"""Orders of passages other than BM25's and a reranker's, in the store: one row a question, and one a passage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlite_utils import Database

from kard.db import now, writing
from kard.records import canonical, digest

LACKING = """
select q.id, q.text from questions q
left join rankings g on g.question_id = q.id and g.index_id = :index and g.retriever_id = :retriever
where coalesce(g.depth, 0) <> :depth and q.id in (
    select id from questions where task = :task and (:split is null or split = :split) order by id limit :limit)
order by q.id
"""


@dataclass(frozen=True, slots=True)
class Retriever:
    """What orders passages: a row of `retrievers`."""

    kind: str  # fused, dense or hybrid
    base: str
    base_sha256: str
    reranker_id: str | None  # whose adapter the encoder wears
    settings: dict[str, object]

    @property
    def id(self) -> str:
        """The hash of what decides the order; the base counts by its weights, not by its name."""
        return digest(self.kind, self.base_sha256, self.reranker_id or "", canonical(self.settings))


@dataclass(frozen=True, slots=True)
class Ranked:
    """A question's passages, best first."""

    question: int
    passages: Sequence[tuple[str, float]]  # id and score
    milliseconds: float


def keep_retriever(db: Database, retriever: Retriever, metrics: dict[str, object], milliseconds: float) -> str:
    """Write the retriever down, or make it the newest of its kind; its id."""
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
    task: str,
    depth: int,
    *,
    split: str | None = None,
    limit: int | None = None,
) -> list[tuple[int, str]]:
    """Id and text of those of the first `limit` questions that have no order of just this depth."""
    values = {
        "retriever": retriever_id,
        "index": index_id,
        "task": task,
        "depth": depth,
        "split": split,
        "limit": -1 if limit is None else limit,
    }
    return [(int(key), str(text)) for key, text in db.execute(LACKING, values)]


def keep_rankings(db: Database, retriever_id: str, index_id: str, depth: int, ranked: Sequence[Ranked]) -> None:
    """Write these orders whole, in place of those of another depth, or none of them. The store has the passages."""
    created = now()
    with writing(db):
        for one in ranked:
            where = [retriever_id, index_id, one.question]
            db.execute("delete from rankings where retriever_id = ? and index_id = ? and question_id = ?", where)
            cursor = db.execute(
                "insert into rankings (retriever_id, index_id, question_id, depth, milliseconds, created)"
                " values (?, ?, ?, ?, ?, ?)",
                [*where, depth, one.milliseconds, created],
            )
            db.conn.executemany(
                "insert into ranked (ranking_id, rank, passage_id, score) values (?, ?, ?, ?)",
                [(cursor.lastrowid, rank, i, score) for rank, (i, score) in enumerate(one.passages, 1)],
            )
