"""Rank each question's hits by the reranker, and keep the scores (section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sqlite_utils import Database

from kard.config import QueryForm, Scorer
from kard.db import rows, writing
from kard.encoders.vectors import (
    VECTOR_SCORERS,
    DiskCache,
    Encodings,
    ReadPassages,
    VectorSpec,
    open_encodings,
    passage_text,
)
from kard.passages import read_passages
from kard.progress import SILENT, Progress
from kard.questions import QuestionSet, query_of_row
from kard.records import Passage

if TYPE_CHECKING:  # torch: what is left to score is told without it
    from kard.reranker.model import Reranker, Scores
    from kard.work.workers import Workers

BATCH = 64  # questions a commit
DELETE_SCORES = "delete from rerank_scores where reranker_id = ? and retrieval_id = ?"
INSERT_SCORE = (
    "insert into rerank_scores (reranker_id, retrieval_id, rank, passage_id, score) values (?, ?, ?, ?, ?)"
)


def unscored(
    db: Database, reranker_id: str, index_id: str, questions: QuestionSet, form: QueryForm = "question"
) -> list[tuple[int, str]]:
    """Return row id and query of the retrievals of this form whose hits the reranker has not all scored."""
    values = {"reranker": reranker_id, "index": index_id, "form": form, **questions.parameters}
    missing = rows(db, "internal/retrievals_to_rerank", **values)
    return [(int(row["id"]), query_of_row(row, form).read) for row in missing]


def rerank(
    db: Database,
    reranker: Reranker,
    reranker_id: str,
    index_id: str,
    questions: QuestionSet,
    form: QueryForm = "question",
    *,
    knowledge: Path | None = None,
    progress: Progress = SILENT,
) -> int:
    """Score the hits of every question that `unscored` names; return the number of questions.

    Ties keep BM25's order. Each batch of questions is committed when it is done. `knowledge` is the folder of the
    knowledge base: with it, passages are encoded once for all runs and their vectors read from there.
    """
    missing = unscored(db, reranker_id, index_id, questions, form)
    vectors = None
    if knowledge and missing:
        retrievals = [retrieval for retrieval, _ in missing]
        vectors = encode_hits(db, reranker, reranker_id, retrievals, knowledge, progress=progress)
    with progress.bar("rerank", len(missing)) as advance:
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            hits = _hits(db, [retrieval for retrieval, _ in batch])
            candidates = [hits.get(retrieval, []) for retrieval, _ in batch]
            scores = scores_of(reranker, [question for _, question in batch], candidates)
            with writing(db):
                for (retrieval, _), passages, values in zip(batch, candidates, scores, strict=True):
                    _write_scores(db, reranker_id, retrieval, passages, values)
            advance(len(batch))
    if vectors is not None:
        vectors.close()
    return len(missing)


def encode_hits(
    db: Database,
    reranker: Reranker,
    reranker_id: str,
    retrievals: Sequence[int],
    knowledge: Path,
    *,
    progress: Progress = SILENT,
    workers: Workers | None = None,
) -> Encodings | None:
    """Encode what these retrievals found and has no vector on disk; return the vectors, which it then reads.

    None for a reranker that makes no vectors of passages.
    """
    vectors = vectors_of(db, reranker, reranker_id, knowledge)
    if vectors is not None:
        ids = [str(row["passage_id"]) for row in rows(db, "internal/hit_passages", retrievals=retrievals)]
        attach_vectors(
            reranker,
            vectors,
            ids,
            lambda ids: read_passages(db, ids).values(),
            progress=progress,
            workers=workers,
        )
    return vectors


def vectors_of(db: Database, reranker: Reranker, reranker_id: str, knowledge: Path) -> Encodings | None:
    """Return the passage vectors on disk that the reranker compares with.

    None for a reranker that reads each passage together with the question.
    """
    if reranker.scorer not in VECTOR_SCORERS:
        return None
    return open_encodings(knowledge, vector_spec(db, reranker, reranker_id, reranker.scorer))


def vector_spec(db: Database, reranker: Reranker, reranker_id: str, pooling: Scorer) -> VectorSpec:
    """Return what decides the reranker's passage vectors; its adapter counts only if passages are read with it."""
    query = "select base, base_sha256, sha256 from rerankers where id = ?"
    base, base_sha256, sha256 = db.execute(query, [reranker_id]).fetchone()
    adapter = "" if reranker.has_passage_encoder else sha256
    return reranker.encoder.vector_spec(pooling, base=base, base_sha256=base_sha256, adapter_sha256=adapter)


def attach_vectors(
    reranker: Reranker,
    vectors: Encodings,
    ids: Sequence[str],
    read: ReadPassages,
    *,
    progress: Progress = SILENT,
    workers: Workers | None = None,
) -> None:
    """Encode those of these passages that have no vector on disk, and let the reranker read vectors from there."""
    from kard.encoders.by_workers import fill

    reranker.cache = DiskCache(vectors)
    fill(vectors, ids, read, lambda: reranker.passage_encoder, workers, progress)


def scores_of(
    reranker: Reranker, questions: Sequence[str], candidates: Sequence[Sequence[Passage]]
) -> list[Scores]:
    """Return the scores of each question's candidates, with the attached vectors if there are any."""
    if isinstance(reranker.cache, DiskCache):
        reranker.cache.announce({passage_text(p): p.id for passages in candidates for p in passages})
    return reranker.scores_many(questions, candidates)


def _hits(db: Database, retrievals: Sequence[int]) -> dict[int, list[Passage]]:
    """Return the passages that each retrieval found, best BM25 first."""
    hits = rows(db, "internal/hits_with_text", retrievals=retrievals)
    return {
        retrieval: [Passage(h["id"], h["document"], h["part"], h["title"], h["text"]) for h in group]
        for retrieval, group in groupby(hits, lambda hit: int(hit["retrieval_id"]))
    }


def _write_scores(
    db: Database, reranker_id: str, retrieval: int, passages: Sequence[Passage], scores: Scores
) -> None:
    """Replace the retrieval's scores by these (P,), ranked."""
    db.execute(DELETE_SCORES, [reranker_id, retrieval])
    order = np.argsort(-scores, kind="stable")
    db.conn.executemany(
        INSERT_SCORE,
        [
            (reranker_id, retrieval, rank, passages[place].id, float(scores[place]))
            for rank, place in enumerate(order, 1)
        ],
    )
