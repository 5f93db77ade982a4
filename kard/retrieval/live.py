"""Find the passages for a text that is not in the store, by any of the retrievers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kard.config import QueryForm, Retrieval
from kard.db import rows
from kard.errors import Missing
from kard.questions import query_of
from kard.recipes import stored_settings
from kard.records import Hit, Passage

if TYPE_CHECKING:
    from pathlib import Path

    from sqlite_utils import Database

    from kard.encoders.vectors import Encodings
    from kard.knowledge.knowledge_base import KnowledgeBase
    from kard.reranker.model import Reranker, Scores
    from kard.retrieval.dense import DenseSearch, PassageEncoder
    from kard.retrieval.fusion import Fusion

CHANGED = "the documents have changed since the reranker was trained"
MAX_UNENCODED = 2_000  # passages that a search encodes itself: half a minute of one core with the embedded encoder


@dataclass(frozen=True, slots=True)
class RankedHit:
    """A passage with its place in each order; `place` 1 to k are read, in that order."""

    hit: Hit  # rank and BM25
    place: int
    score: float | None  # of the reranker or of dense search; None for BM25 alone
    read: bool
    reranked: int | None = None  # its place by the reranker


@dataclass(frozen=True)
class LiveRetriever:
    """Retriever for a new question: BM25, dense search or both find candidates, and a reranker may order them.

    `fusion` makes one order of two: of BM25 and the reranker if there is one, else of BM25 and `dense`. With
    `encodings` the reranker reads passages' vectors from the disk and keeps there those that it makes; they belong
    to the thread that opened them.
    """

    kb: KnowledgeBase
    reranker: Reranker | None
    settings: Retrieval
    encodings: Encodings | None = None
    fusion: Fusion | None = None
    dense: DenseSearch | None = None
    note: str = ""  # why the passages are ordered otherwise than before

    @property
    def name(self) -> str:
        """Return the name of the retriever, one of `config.RETRIEVERS`."""
        if self.reranker is not None:
            return "reranker" if self.fusion is None else "fused"
        if self.dense is not None:
            return "dense" if self.fusion is None else "hybrid"
        return "bm25"

    def find(self, question: str, options: Sequence[str] = ()) -> list[RankedHit]:
        """Return the candidates in the order of reading, the first k of them marked as read."""
        settings = self.settings
        query = query_of(question, options, settings.query)
        hits = self.search(query.texts, settings.kappa)
        if self.reranker is None or not hits:
            return [RankedHit(hit, hit.rank, hit.score, hit.rank <= settings.k) for hit in hits]
        scores = [float(score) for score in self._scores(self.reranker, query.read, [hit.passage for hit in hits])]
        reranked = sorted(range(len(hits)), key=lambda i: -scores[i])  # ties keep BM25's order
        ranks = {i: rank for rank, i in enumerate(reranked, 1)}
        order = reranked if self.fusion is None else _fused(self.fusion, [hit.bm25 for hit in hits], scores)
        return [
            RankedHit(hits[i], place, scores[i], place <= settings.k, ranks[i]) for place, i in enumerate(order, 1)
        ]

    def knows(self, question: str, options: Sequence[str] = ()) -> bool:
        """Return whether a passage holds a word that is searched with, but for words in over `max_df` of them."""
        texts = query_of(question, options, self.settings.query).texts
        return any(self.kb.knows(text, self.settings.max_df) for text in texts)

    def search(self, text: str | Sequence[str], k: int) -> list[Hit]:
        """Return the `k` best candidates, best first, before any reranker orders them."""
        max_df = self.settings.max_df_among(self.kb.count)
        if self.dense is None:
            return self.kb.search(text, k, max_df=max_df)
        if self.fusion is None:
            return self.dense.search(text, k)
        from kard.retrieval.fusion import merge

        depth = max(k, self.settings.kappa)
        words = self.kb.search(text, depth, max_df=max_df)
        bm25 = {hit.passage.id: hit.bm25 for hit in words}
        nearest = self.dense.search_texts(text, depth)
        merged = merge(self.fusion, list(bm25.items()), nearest, k)
        passages = {p.id: p for p in self.kb.passages([i for i, _ in merged])}
        return [Hit(passages[i], rank, bm25.get(i, math.nan), score) for rank, (i, score) in enumerate(merged, 1)]

    def _scores(self, reranker: Reranker, question: str, candidates: Sequence[Passage]) -> Scores:
        if self.encodings is None:
            return reranker.scores(question, candidates)
        from kard.retrieval.rerank import attach_vectors, scores_of

        passages = {passage.id: passage for passage in candidates}
        attach_vectors(reranker, self.encodings, list(passages), lambda ids: [passages[i] for i in ids])
        return scores_of(reranker, [question], [candidates])[0]


def dense_retriever(
    kb: KnowledgeBase, encoder: PassageEncoder, settings: Retrieval, *, hybrid: bool = False
) -> LiveRetriever:
    """Return the retriever by vectors, or by both words and vectors, after missing vectors were made.

    Raises Missing when too many passages have no vector yet.
    """
    from kard.retrieval.dense import DenseSearch
    from kard.retrieval.fusion import Fusion

    dense = DenseSearch(kb, encoder.embedder)
    if unencoded := len(dense.unencoded()):
        _require_few(kb, unencoded, encoder.retriever.reranker_id or encoder.retriever.base)
        dense.fill()
    return LiveRetriever(kb, None, settings, fusion=Fusion() if hybrid else None, dense=dense)


def require_vectors(kb: KnowledgeBase, encoder: str) -> None:
    """Raise Missing if no encoder that this name may mean has encoded enough passages for a search by vectors.

    It takes no time; to load the encoder and ask for its own vectors takes many seconds.
    """
    from kard.encoders.vectors import list_encodings
    from kard.tasks import ENCODER_BASE

    stored = list_encodings(kb.folder)
    if encoder == ENCODER_BASE:  # other names may be a folder's or a reranker's
        stored = [s for s in stored if (s.spec.get("base"), s.spec.get("adapter_sha256")) == (encoder, "")]
    most = max((vectors.passages for vectors in stored), default=0)
    _require_few(kb, kb.count - most, encoder)


def _require_few(kb: KnowledgeBase, unencoded: int, encoder: str) -> None:
    """Raise Missing if more passages have no vector by this encoder than a search encodes itself."""
    from kard.tasks import ENCODER_BASE

    if unencoded > MAX_UNENCODED:
        option = "" if encoder == ENCODER_BASE else f" --encoder {encoder}"
        raise Missing(
            f"{unencoded:,} passages have no vector by {encoder} yet; make them once with:"
            f" kard encodings fill{option} --knowledge {kb.folder}"
        )


def fusion_for(
    db: Database, task: str, reranker_id: str, form: QueryForm = "question", *, required: bool = True
) -> Fusion | None:
    """Return how BM25 and the reranker become one order for the task.

    Where that was not chosen it is None, or raises Missing if it is `required`.
    """
    from kard.retrieval.fusion import Fusion

    fusions = rows(db, "internal/newest_fusion", reranker=reranker_id, form=form)
    if not fusions and required:
        raise Missing(
            f"no fusion of BM25 and reranker {reranker_id} was chosen for {task}; "
            f"choose it with: kard evaluate {task} --retriever fused"
        )
    with stored_settings("a fusion"):
        return Fusion.of(json.loads(str(fusions[0]["settings"]))) if fusions else None


def no_reranker(db: Database, task: str, *, store: Path | None = None) -> Missing:
    """Return the error of a task that has no reranker on the current knowledge base."""
    train = f"kard train reranker {task}" + ("" if store is None else f" --store {store}")
    if trained_elsewhere(db, task):
        return Missing(f"{CHANGED}; train it again with: {train}")
    return Missing(f"no reranker for {task} on this knowledge base; train one with: {train}")


def by_bm25(db: Database, task: str) -> str:
    """Return what a person should hear where passages are by BM25 since the documents changed, else ''."""
    again = f"{CHANGED}: passages by bm25; train it again with: kard train reranker {task}"
    return again if trained_elsewhere(db, task) else ""


def trained_elsewhere(db: Database, task: str) -> bool:
    """Return whether the task has a reranker, on whatever documents; those of an ablation do not count."""
    query = "select exists (select 1 from rerankers where task = ? and experiment = '')"
    return bool(db.execute(query, [task]).fetchone()[0])


def _fused(fusion: Fusion, bm25: Sequence[float], scores: Sequence[float]) -> list[int]:
    """Return the positions of the passages in the order of both."""
    import numpy as np

    from kard.retrieval.fusion import fused_order

    return [int(i) for i in fused_order(fusion, np.array(bm25), np.array(scores))]
