"""Dense and hybrid orders of a task's questions, kept in the store (the paper's open question on retrievers)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import cast

from sqlite_utils import Database

from kard.config import Retrieval
from kard.db import batches, marks, writing
from kard.encoders.families import Embedder, question_twin
from kard.errors import BadConfig
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.models.bases import Base, resolve
from kard.progress import SILENT, Progress
from kard.retrieval.dense import Dense
from kard.retrieval.fuse import RelevanceLabels
from kard.retrieval.fusion import Fusion, Tuned
from kard.retrieval.hits import copy_passages
from kard.retrieval.hybrid import choose, merge
from kard.retrieval.rankings import Ranked, Retriever, keep_rankings

TOGETHER = 64  # questions a commit
CHOSEN_ON = 100  # questions at most that a fusion is chosen on

BM25 = """
select r.question_id, h.passage_id, h.bm25 from retrievals r join hits h on h.retrieval_id = r.id and h.rank <= ?
where r.query = 'question' and r.index_id = ? and r.question_id in ({marks}) order by r.question_id, h.rank
"""
DENSE = """
select g.question_id, x.passage_id, x.score from rankings g join ranked x on x.ranking_id = g.id and x.rank <= ?
where g.retriever_id = ? and g.index_id = ? and g.question_id in ({marks}) order by g.question_id, x.rank
"""


@dataclass(frozen=True, slots=True)
class Reader:
    """An encoder of passages, and what it is."""

    embedder: Embedder
    retriever: Retriever


def reader_of(base: Base, *, max_length: int | None = None) -> Reader:
    """A base as it is, read as its family is. Raises NoBase, and BadConfig for the wrong half of a pair."""
    if "question_encoder" in base.spec:
        spec = base.spec.replace("question_encoder", "ctx_encoder")
        raise BadConfig(f"{base.spec} reads questions; name the encoder of passages, perhaps {spec}")
    twin = question_twin(base.spec)
    questions = None if twin is None else resolve(twin)
    embedder = Embedder.of(base, questions, max_length=max_length)
    settings: dict[str, object] = {
        "passages": embedder.maker.id,
        "questions": "" if questions is None else questions.sha256,
    }
    return Reader(embedder, Retriever("dense", base.spec, base.sha256, None, settings))


def reader_of_reranker(db: Database, reranker_id: str, adapters: Path) -> Reader:
    """A trained reranker's encoders, mean-pooled. Raises Missing, NoBase, BadConfig for a cross-encoder."""
    from kard.reranker.model import Reranker
    from kard.retrieval.rerank import maker_for

    reranker = Reranker.load(db, reranker_id, adapters)
    questions = reranker.encoder  # a cross-encoder has none
    query = "select base, base_sha256, sha256 from rerankers where id = ?"
    base, base_sha256, sha256 = db.execute(query, [reranker_id]).fetchone()
    maker = maker_for(reranker, "pooled", base, base_sha256, sha256)
    retriever = Retriever("dense", base, base_sha256, reranker_id, {"passages": maker.id, "questions": ""})
    return Reader(Embedder.of_reranker(reranker.passage_encoder, questions, maker), retriever)


def search(
    db: Database,
    dense: Dense,
    retriever_id: str,
    questions: Sequence[tuple[int, str]],
    depth: int,
    *,
    progress: Progress = SILENT,
) -> int:
    """Find the `depth` nearest passages of each question and keep them; how many questions."""
    with progress.bar("search by vectors", len(questions)) as advance:
        for some in batches(questions, TOGETHER):
            pairs = cast("Sequence[tuple[int, str]]", some)
            started = time.perf_counter()
            found = dense.find([text for _, text in pairs], depth)
            milliseconds = (time.perf_counter() - started) * 1000 / len(pairs)
            ranked = [Ranked(key, hits, milliseconds) for (key, _), hits in zip(pairs, found, strict=True)]
            with writing(db):
                copy_passages(db, dense.kb.passages(sorted({i for hits in found for i, _ in hits})))
                keep_rankings(db, retriever_id, dense.kb.id, depth, ranked)
            advance(len(pairs))
    return len(questions)


def choose_hybrid(
    kb: KnowledgeBase, dense: Dense, held_out: Sequence[RelevanceLabels], settings: Retrieval
) -> Tuned:
    """The fusion of BM25 and vectors that finds most of what (the first hundred of) these questions need."""
    some = held_out[:CHOSEN_ON]
    words = [
        [(hit.passage.id, hit.bm25) for hit in kb.search(n.text, settings.kappa, max_df=settings.max_df)]
        for n in some
    ]
    vectors = dense.find([needs.text for needs in some], settings.kappa)
    return choose(list(zip(words, vectors, strict=True)), some)


def mix(
    db: Database,
    retriever_id: str,
    fusion: Fusion,
    dense_id: str,
    index_id: str,
    kappa: int,
    questions: Sequence[int],
    *,
    progress: Progress = SILENT,
) -> int:
    """Make one order of each question's first `kappa` by BM25 and by vectors, both in the store; how many."""
    with progress.bar("mix", len(questions)) as advance:
        for some in batches(questions, TOGETHER):
            words = _lists(db, BM25, [kappa, index_id], some)
            vectors = _lists(db, DENSE, [kappa, dense_id, index_id], some)
            ranked: list[Ranked] = []
            for question in cast("Sequence[int]", some):
                started = time.perf_counter()
                passages = merge(fusion, words.get(question, ()), vectors.get(question, ()), kappa)
                ranked.append(Ranked(question, passages, (time.perf_counter() - started) * 1000))
            keep_rankings(db, retriever_id, index_id, kappa, ranked)
            advance(len(some))
    return len(questions)


def _lists(
    db: Database, query: str, values: Sequence[object], questions: Sequence[object]
) -> dict[int, list[tuple[str, float]]]:
    rows = db.execute(query.format(marks=marks(questions)), [*values, *questions])
    return {key: [(row[1], row[2]) for row in some] for key, some in groupby(rows, key=lambda row: row[0])}
