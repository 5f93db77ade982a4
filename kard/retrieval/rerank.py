"""Rank what BM25 found for each question by the reranker, and keep the scores (section 3.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from kard.config import Scorer
from kard.db import batches, marks, writing
from kard.encoders.encoder import passage_text
from kard.encoders.vector_cache import WITH_VECTORS, DiskCache, Read, encode_with, fill, maker_of
from kard.encoders.vector_store import Encodings, Vector, VectorSpec, beside
from kard.progress import SILENT, Progress
from kard.records import Passage
from kard.reranker.model import Reranker

TOGETHER = 64  # questions a commit

# Counts, not existence: a retrieval that was made deeper is ranked again.
MISSING = """
select r.id, q.text from retrievals r join questions q on q.id = r.question_id
where r.query = 'question' and r.index_id = :index and q.task = :task
  and q.id in (
      select id from questions where task = :task and (:split is null or split = :split) order by id limit :limit)
  and (select count(*) from hits h where h.retrieval_id = r.id)
   <> (select count(*) from rerank_scores s where s.reranker_id = :reranker and s.retrieval_id = r.id)
order by q.id
"""
HITS = """
select h.retrieval_id, p.id, p.document, p.part, p.title, p.text
from hits h join passages p on p.id = h.passage_id where h.retrieval_id in ({marks}) order by h.retrieval_id, h.rank
"""


def unranked(
    db: Database,
    reranker_id: str,
    task_name: str,
    index_id: str,
    *,
    split: str | None = None,
    limit: int | None = None,
) -> list[tuple[int, str]]:
    """Retrievals (of the first `limit` questions) that the reranker has not ranked: their ids and questions."""
    parameters = {
        "reranker": reranker_id,
        "task": task_name,
        "index": index_id,
        "split": split,
        "limit": -1 if limit is None else limit,
    }
    return [(int(row[0]), str(row[1])) for row in db.execute(MISSING, parameters)]


def encodings_of(db: Database, reranker: Reranker, reranker_id: str, knowledge: Path) -> Encodings | None:
    """The vectors on disk that the reranker compares with; None for one that reads passages with the question."""
    if reranker.scorer not in WITH_VECTORS:
        return None
    query = "select base, base_sha256, sha256 from rerankers where id = ?"
    base, base_sha256, sha256 = db.execute(query, [reranker_id]).fetchone()
    return beside(knowledge, maker_for(reranker, reranker.scorer, base, base_sha256, sha256))


def maker_for(reranker: Reranker, pooling: Scorer, base: str, base_sha256: str, sha256: str) -> VectorSpec:
    """What makes the vectors of passages for a reranker with this base and adapter: the base alone, if it can."""
    adapter = "" if reranker.apart else sha256
    return maker_of(reranker.encoder, pooling, base=base, base_sha256=base_sha256, adapter_sha256=adapter)


def rerank(
    db: Database,
    reranker: Reranker,
    reranker_id: str,
    task_name: str,
    index_id: str,
    *,
    split: str | None = None,
    limit: int | None = None,
    knowledge: Path | None = None,
    progress: Progress = SILENT,
) -> int:
    """Rank every question's hits in this index that are not ranked yet; the number of questions ranked.

    Ties keep BM25's order. Each batch of questions is committed when it is done. With the folder of the knowledge
    base, passages are encoded once for all runs and read from the disk.
    """
    missing = unranked(db, reranker_id, task_name, index_id, split=split, limit=limit)
    encodings = encodings_of(db, reranker, reranker_id, knowledge) if knowledge and missing else None
    if encodings is not None:
        ids = candidates_of(db, [retrieval for retrieval, _ in missing])
        prefetch(reranker, encodings, ids, lambda some: stored_passages(db, some), progress=progress)
    with progress.bar("rerank", len(missing)) as advance:
        for start in range(0, len(missing), TOGETHER):
            some = missing[start : start + TOGETHER]
            found = _passages(db, [retrieval for retrieval, _ in some])
            lists = [found.get(retrieval, []) for retrieval, _ in some]
            scores = scores_of(reranker, [question for _, question in some], lists)
            with writing(db):
                for (retrieval, _), passages, values in zip(some, lists, scores, strict=True):
                    _write(db, reranker_id, retrieval, passages, values)
            advance(len(some))
    if encodings is not None:
        encodings.close()
    return len(missing)


def prefetch(
    reranker: Reranker, encodings: Encodings, ids: Sequence[str], read: Read, *, progress: Progress = SILENT
) -> None:
    """Encode what has no vector on disk of these passages, and let the reranker read vectors from there."""

    def encode(passages: Sequence[Passage]) -> Sequence[Vector]:
        return encode_with(reranker.passage_encoder, reranker.scorer)(passages)

    reranker.cache = DiskCache(encodings)
    fill(encodings, ids, read, encode, progress=progress)


def scores_of(
    reranker: Reranker, questions: Sequence[str], lists: Sequence[Sequence[Passage]]
) -> list[NDArray[np.float32]]:
    """For each question the scores of its passages, with the vectors on disk where there are any."""
    if isinstance(reranker.cache, DiskCache):
        reranker.cache.announce({passage_text(p): p.id for passages in lists for p in passages})
    return reranker.scores_many(questions, lists)


def candidates_of(db: Database, retrievals: Sequence[int]) -> list[str]:
    """Every passage that these retrievals found, once."""
    found: set[str] = set()
    for some in batches(retrievals):
        query = f"select distinct passage_id from hits where retrieval_id in ({marks(some)})"
        found.update(row[0] for row in db.execute(query, list(some)))
    return sorted(found)


def stored_passages(db: Database, ids: Sequence[str]) -> Iterator[Passage]:
    """The passages with these ids, from the store, in any order."""
    for some in batches(ids):
        query = f"select id, document, part, title, text from passages where id in ({marks(some)})"
        yield from (Passage(*row) for row in db.execute(query, list(some)))


def _passages(db: Database, retrievals: Sequence[int]) -> dict[int, list[Passage]]:
    """The hits of each retrieval, best BM25 first."""
    rows = db.execute(HITS.format(marks=marks(retrievals)), list(retrievals))
    return {retrieval: [Passage(*row[1:]) for row in some] for retrieval, some in groupby(rows, lambda row: row[0])}


def _write(
    db: Database,
    reranker_id: str,
    retrieval: int,
    passages: Sequence[Passage],
    scores: np.ndarray[tuple[int], np.dtype[np.float32]],
) -> None:
    """Replace the retrieval's scores by these, ranked."""
    db.execute("delete from rerank_scores where reranker_id = ? and retrieval_id = ?", [reranker_id, retrieval])
    order = np.argsort(-scores, kind="stable")
    db.conn.executemany(
        "insert into rerank_scores (reranker_id, retrieval_id, rank, passage_id, score) values (?, ?, ?, ?, ?)",
        (
            (reranker_id, retrieval, rank, passages[place].id, float(scores[place]))
            for rank, place in enumerate(order, 1)
        ),
    )
