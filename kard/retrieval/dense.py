"""Search by vectors over a whole knowledge base: exact, every passage against every question.

No index of neighbours stands in between: among 306,549 passages of 384 numbers one question takes 46 ms of one
core, 8 ms when 64 are asked together. (In the same process: faiss-cpu 1.15 9 ms over a copy of its own, usearch
2.26 exact 30 ms, numpy alone 337 ms; sqlite-vec cannot be loaded where Python's SQLite takes no extensions.) The
vectors are those that the reranker's cache keeps; encoding them is what takes hours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sqlite_utils import Database

from kard.config import QueryForm, RerankerTraining, Retrieval
from kard.db import open_store, rows, writing
from kard.encoders import by_workers
from kard.encoders.families import Embedder, question_twin
from kard.encoders.vectors import Encodings, Vector, open_encodings
from kard.errors import BadConfig, Missing
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.models import hardware
from kard.models.bases import Base, resolve
from kard.progress import SILENT, Progress
from kard.questions import Query
from kard.records import Hit
from kard.reranker.model import Reranker
from kard.retrieval.fusion import (
    Fusion,
    JudgedCandidates,
    RelevanceLabels,
    ScoredIds,
    TunedFusion,
    align,
    tune,
    write_merged,
)
from kard.retrieval.rankings import Ranking, Retriever, copy_passages, write_rankings
from kard.retrieval.rerank import vector_spec
from kard.tasks import ENCODER_BASE
from kard.work.workers import Workers

BLOCK = 4096  # rows at a time: 6 MB in float32 stay in a core's cache
DEVICE_BLOCK = 262_144  # rows at a time on an accelerator
BATCH = 64  # questions a pass over the vectors, and a commit
MAX_HELD_OUT = 100  # questions that a fusion is chosen on


# --- the search -----------------------------------------------------------------------------------


class DenseSearch:
    """Exact search for the nearest passages of a knowledge base by one encoder. Scores are dot products."""

    def __init__(self, kb: KnowledgeBase, embedder: Embedder) -> None:
        self.kb = kb
        self.embedder = embedder
        self.encodings: Encodings = open_encodings(kb.folder, embedder.spec)
        self._passages = dict.fromkeys(kb.passage_ids())
        self._loaded: tuple[list[str], Vector, NDArray[np.bool_]] | None = None

    def unencoded(self) -> list[str]:
        """Return the ids of the passages that have no vector yet."""
        encoded = {passage for passage, _ in self.encodings.first_rows()}
        return [i for i in self._passages if i not in encoded]

    def fill(self, progress: Progress = SILENT, workers: Workers | None = None) -> int:
        """Encode the passages that have no vector yet, a batch a commit; return how many they were.

        Workers do it beside each other. Raises Missing if the disk has no room for them.
        """
        missing = self.unencoded()
        self._loaded = None
        if workers:
            embedder, read = self.embedder, self.kb.passages
            added = by_workers.fill(
                self.encodings, missing, read, lambda: embedder.passage_encoder, workers, progress
            )
        else:
            added = self.encodings.fill(missing, self.kb.passages, self.embedder.passages, progress=progress)
        if missing and (left := len(self.unencoded())):
            raise Missing(f"{left:,} passages could not be encoded into {self.encodings.folder}; make room there")
        return added

    def search(self, text: str | Sequence[str], k: int) -> list[Hit]:
        """Return the `k` nearest passages, best first. Their BM25 is not known and stands as NaN."""
        nearest = self.search_texts(text, k)
        passages = {p.id: p for p in self.kb.passages([i for i, _ in nearest])}
        present = [(passages[i], score) for i, score in nearest if i in passages]
        return [Hit(passage, rank, math.nan, score) for rank, (passage, score) in enumerate(present, 1)]

    def search_ids(self, questions: Sequence[str], k: int) -> list[list[tuple[str, float]]]:
        """Return for each question the ids and scores of its `k` nearest passages, best first."""
        passages, vectors, present = self._loaded or self._load()
        results: list[list[tuple[str, float]]] = []
        for start in range(0, len(questions), BATCH):
            batch = self.embedder.questions(list(questions[start : start + BATCH]))
            scores, places = nearest_rows(batch, vectors, present, k)
            results.extend(
                [(passages[place], score) for score, place in zip(*pair, strict=True)]
                for pair in zip(scores.tolist(), places.tolist(), strict=True)
            )
        return results

    def search_texts(self, text: str | Sequence[str], k: int) -> list[tuple[str, float]]:
        """Return the ids and scores of the `k` nearest passages, by the best score of any of the texts."""
        return _best(self.search_ids([text] if isinstance(text, str) else text, k), k)

    def search_queries(self, queries: Sequence[Query], k: int) -> list[list[tuple[str, float]]]:
        """Return for each query the ids and scores of its `k` nearest passages, by the best score of its texts."""
        found = iter(self.search_ids([text for query in queries for text in query.texts], k))
        return [_best([next(found) for _ in query.texts], k) for query in queries]

    def _load(self) -> tuple[list[str], Vector, NDArray[np.bool_]]:
        """Read the passage of each row (N,), the rows (N, H), and which rows are passages of this base (N,)."""
        pairs = self.encodings.first_rows()
        vectors = self.encodings.matrix()
        passages = [""] * len(vectors)
        for passage, row in pairs:
            if passage in self._passages:
                passages[row] = passage
        self._loaded = passages, vectors, np.array([bool(passage) for passage in passages])
        return self._loaded


def _best(lists: Sequence[list[tuple[str, float]]], k: int) -> list[tuple[str, float]]:
    """Return the `k` best passages of several lists, each with its best score; equal scores keep their order."""
    if len(lists) == 1:
        return lists[0]
    best: dict[str, float] = {}
    for passage, score in (pair for nearest in lists for pair in nearest):
        best[passage] = max(score, best.get(passage, score))
    return sorted(best.items(), key=lambda pair: -pair[1])[:k]


def nearest_rows(
    questions: NDArray[np.float32], vectors: Vector, present: NDArray[np.bool_], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return scores and row numbers, (Q, at most k), of the rows with the greatest dot products with each question.

    `questions` is (Q, H), `vectors` (N, H). Rows come best first, equal scores by row number. Rows that are not
    `present` (N,) are passed over.
    """
    device = hardware.device()
    block = BLOCK if device.type == "cpu" else DEVICE_BLOCK
    k = min(k, int(present.sum()))
    queries = torch.from_numpy(questions).to(device)
    best = torch.empty(len(questions), 0, device=device)
    numbers = torch.empty(len(questions), 0, dtype=torch.int64, device=device)
    # Both blocks are made once: fresh ones are pages that the kernel zeroes, 238 ms instead of 22 for 306,549 rows.
    half = np.empty((min(block, len(vectors)), vectors.shape[1]), dtype=np.float16)
    whole = torch.empty(half.shape, device=device)
    for start in range(0, len(vectors) if k else 0, block):
        size = min(block, len(vectors) - start)
        half[:size] = vectors[start : start + size]  # torch takes no array that it could not write to
        scores = queries @ whole[:size].copy_(torch.from_numpy(half[:size])).T
        absent = np.flatnonzero(~present[start : start + size])
        if len(absent):
            scores[:, torch.from_numpy(absent).to(device)] = -torch.inf
        top, places = scores.topk(min(k, size))
        best, chosen = torch.cat([best, top], 1).topk(min(k, best.shape[1] + top.shape[1]))
        numbers = torch.cat([numbers, places + start], 1).gather(1, chosen)
    best_scores, best_rows = best.cpu().numpy(), numbers.cpu().numpy()
    order = np.lexsort((best_rows, -best_scores))
    return np.take_along_axis(best_scores, order, 1), np.take_along_axis(best_rows, order, 1)


# --- encoders to search with ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PassageEncoder:
    """An encoder of questions and passages, and the retriever that it is in the store."""

    embedder: Embedder
    retriever: Retriever


def encoder_of_base(base: Base, *, max_length: int | None = None) -> PassageEncoder:
    """Return the encoder of a base as it is, read as its family is.

    Raises NoBase, and BadConfig for the encoder of questions of a pair.
    """
    if "question_encoder" in base.spec:
        spec = base.spec.replace("question_encoder", "ctx_encoder")
        raise BadConfig(f"{base.spec} reads questions; name the encoder of passages, perhaps {spec}")
    twin = question_twin(base.spec)
    questions = None if twin is None else resolve(twin)
    embedder = Embedder.of(base, questions, max_length=max_length)
    settings: dict[str, object] = {
        "passages": embedder.spec.id,
        "questions": "" if questions is None else questions.sha256,
    }
    return PassageEncoder(embedder, Retriever("dense", base.spec, base.sha256, None, settings))


def encoder_of_reranker(db: Database, reranker_id: str, adapters: Path) -> PassageEncoder:
    """Return a trained reranker's encoder, mean-pooled. Raises Missing, NoBase, BadConfig for a cross-encoder."""
    reranker = Reranker.load(db, reranker_id, adapters)
    questions = reranker.encoder  # a cross-encoder has none
    spec = vector_spec(db, reranker, reranker_id, "pooled")
    retriever = Retriever("dense", spec.base, spec.base_sha256, reranker_id, {"passages": spec.id, "questions": ""})
    return PassageEncoder(Embedder(reranker.passage_encoder, questions, spec), retriever)


def named_encoder(name: str | None, store: Path, adapters: Path) -> PassageEncoder:
    """Return the encoder of a base's name or of a reranker's id in the store; the embedded base for None.

    Raises NoBase, Missing, BadConfig.
    """
    if name is None or name == ENCODER_BASE:
        return encoder_of_base(resolve(ENCODER_BASE), max_length=RerankerTraining().max_length)
    if store.exists():
        db = open_store(store)
        if db.execute("select 1 from rerankers where id = ?", [name]).fetchone():
            return encoder_of_reranker(db, name, adapters)
    return encoder_of_base(resolve(name))


# --- dense and hybrid orders in the store ---------------------------------------------------------


def rank_dense(
    db: Database,
    dense: DenseSearch,
    retriever_id: str,
    questions: Sequence[tuple[int, Query]],
    depth: int,
    *,
    progress: Progress = SILENT,
) -> int:
    """Find and write the `depth` nearest passages of each question (row id, query); return how many questions."""
    with progress.bar("search by vectors", len(questions)) as advance:
        for start in range(0, len(questions), BATCH):
            batch = questions[start : start + BATCH]
            started = time.perf_counter()
            results = dense.search_queries([query for _, query in batch], depth)
            milliseconds = (time.perf_counter() - started) * 1000 / len(batch)
            rankings = [
                Ranking(row_id, hits, milliseconds) for (row_id, _), hits in zip(batch, results, strict=True)
            ]
            with writing(db):
                copy_passages(db, dense.kb.passages(sorted({i for hits in results for i, _ in hits})))
                write_rankings(db, retriever_id, dense.kb.id, depth, rankings)
            advance(len(batch))
    return len(questions)


def choose_hybrid(
    kb: KnowledgeBase, dense: DenseSearch, held_out: Sequence[RelevanceLabels], settings: Retrieval
) -> TunedFusion:
    """Choose the fusion of BM25 and vectors on the first hundred of these questions."""
    held_out = held_out[:MAX_HELD_OUT]
    vectors = dense.search_queries([labels.query for labels in held_out], settings.kappa)
    judged: list[JudgedCandidates] = []
    for labels, nearest in zip(held_out, vectors, strict=True):
        hits = kb.search(labels.query.texts, settings.kappa, max_df=settings.max_df_among(kb.count))
        candidates = align([(hit.passage.id, hit.bm25) for hit in hits], nearest)
        if candidates[0]:
            judged.append(labels.judge(*candidates))
    return tune(judged)


def rank_hybrid(
    db: Database,
    retriever_id: str,
    fusion: Fusion,
    dense_id: str,
    index_id: str,
    kappa: int,
    questions: Sequence[int],
    form: QueryForm = "question",
    *,
    progress: Progress = SILENT,
) -> int:
    """Merge each question's first `kappa` by BM25 and by vectors, both in the store; return how many questions."""

    def lists(batch: Sequence[int]) -> dict[int, tuple[ScoredIds, ScoredIds]]:
        values = {"depth": kappa, "index": index_id, "questions": batch}
        bm25 = _by_question(rows(db, "internal/bm25_lists", **values, form=form))
        vectors = _by_question(rows(db, "internal/ranked_lists", retriever=dense_id, **values))
        return {question: (bm25.get(question, ()), vectors.get(question, ())) for question in batch}

    return write_merged(db, retriever_id, fusion, index_id, kappa, questions, lists, progress=progress)


def _by_question(hits: Sequence[Mapping[str, Any]]) -> dict[int, ScoredIds]:
    return {
        question: [(hit["passage_id"], hit["score"]) for hit in group]
        for question, group in groupby(hits, key=lambda hit: int(hit["question_id"]))
    }
