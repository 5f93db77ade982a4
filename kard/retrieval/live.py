"""Find the passages for a question that is not in the store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kard.config import Retrieval
from kard.db import rows
from kard.errors import Missing
from kard.records import Hit, Passage

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.encoders.vector_store import Encodings
    from kard.knowledge.knowledge_base import KnowledgeBase
    from kard.reranker.model import Reranker, Scores
    from kard.retrieval.fusion import Fusion


@dataclass(frozen=True, slots=True)
class RankedHit:
    """A passage with its place in each order; `place` 1 to k are read, in that order."""

    hit: Hit  # rank and BM25
    place: int
    score: float | None  # the reranker's, None without one
    read: bool
    reranked: int | None = None  # its place by that score


@dataclass(frozen=True)
class LiveRetriever:
    """Where passages for a new question come from: BM25, reordered by the reranker if there is one, or by both.

    With `encodings` the reranker reads passages' vectors from the disk and keeps there what it had to make. They
    belong to the thread that opened them.
    """

    base: KnowledgeBase
    reranker: Reranker | None
    settings: Retrieval
    encodings: Encodings | None = None
    fusion: Fusion | None = None

    @property
    def name(self) -> str:
        """As retrievers are called."""
        return "bm25" if self.reranker is None else "reranker" if self.fusion is None else "fused"

    def find(self, question: str) -> list[RankedHit]:
        """The candidates in the order of reading, the first k of them read."""
        settings = self.settings
        hits = self.base.search(question, settings.kappa, max_df=settings.max_df)
        if self.reranker is None or not hits:
            return [RankedHit(hit, hit.rank, None, hit.rank <= settings.k) for hit in hits]
        scores = [float(score) for score in self._scores(self.reranker, question, [hit.passage for hit in hits])]
        reranked = sorted(range(len(hits)), key=lambda i: -scores[i])  # ties keep BM25's order
        ranks = {i: rank for rank, i in enumerate(reranked, 1)}
        order = reranked if self.fusion is None else _fused(self.fusion, [hit.bm25 for hit in hits], scores)
        return [
            RankedHit(hits[i], place, scores[i], place <= settings.k, ranks[i]) for place, i in enumerate(order, 1)
        ]

    def _scores(self, reranker: Reranker, question: str, passages: Sequence[Passage]) -> Scores:
        if self.encodings is None:
            return reranker.scores(question, passages)
        from kard.retrieval.rerank import prefetch, scores_of

        known = {passage.id: passage for passage in passages}
        prefetch(reranker, self.encodings, list(known), lambda ids: [known[i] for i in ids])
        return scores_of(reranker, [question], [passages])[0]


def fusion_for(db: Database, task: str, reranker_id: str) -> Fusion:
    """How BM25 and the reranker become one order for the task. Raises Missing where that was not chosen."""
    from kard.retrieval.fusion import Fusion

    found = rows(db, "internal/newest_fusion", task=task, reranker=reranker_id)
    if not found:
        raise Missing(
            f"no order of BM25 and reranker {reranker_id} as one was chosen for {task}; "
            f"choose it with: kard evaluate {task} --retrievers fused"
        )
    return Fusion.of(json.loads(str(found[0]["settings"])))


def _fused(fusion: Fusion, bm25: Sequence[float], scores: Sequence[float]) -> list[int]:
    """The places of the passages in the order of both."""
    import numpy as np

    from kard.retrieval.fusion import order

    return [int(i) for i in order(fusion, np.array(bm25), np.array(scores))]
