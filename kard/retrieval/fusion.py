"""One order out of two: BM25's and that of a reranker or of dense search.

Either by ranks (reciprocal rank fusion: Cormack, Clarke and Büttcher, SIGIR 2009) or by scores, with BM25 divided
by the question's best so that questions compare. Which one, and with what weight, is chosen on held-out questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kard.config import Settings, require

Floats = NDArray[np.float64]
Kind = Literal["ranks", "scores"]
CONSTANT = 60  # of reciprocal rank fusion, from the paper; it has been found to matter little
WEIGHTS = tuple(round(0.05 * i, 2) for i in range(21))  # tried ones; 0 and 1 keep one of the two orders
DEPTH = 10  # of the nDCG that is chosen for: it varies less from sample to sample than Hits@k
ENOUGH = 10  # questions, below which nothing is chosen


@dataclass(frozen=True, slots=True)
class Fusion(Settings):
    """How two orders become one."""

    kind: Kind = "ranks"
    weight: float = 0.5  # of the second order; BM25 has the rest
    unit: float = 1.0  # spread of the second order's scores within a question, which `scores` divides by

    def __post_init__(self) -> None:
        require(self.kind in ("ranks", "scores"), f"kind must be ranks or scores, not {self.kind}")
        require(0 <= self.weight <= 1, f"weight must be in [0, 1], not {self.weight}")
        require(self.unit > 0, f"unit must be positive, not {self.unit}")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Fusion:
        """The one that a retriever's `settings` name among others."""
        return cls(**{name: settings[name] for name in ("kind", "weight", "unit")})


def fused(fusion: Fusion, bm25: Floats, scores: Floats) -> Floats:
    """A score of each of a question's passages, (P,), higher is better.

    `bm25` and `scores` are (P,); NaN stands where a passage is not in that list. By scores, such a passage gets
    what the list's last one has; by ranks, nothing.
    """
    if fusion.kind == "ranks":
        return (1 - fusion.weight) * _reciprocal(bm25) + fusion.weight * _reciprocal(scores)
    top = np.nanmax(bm25, initial=0.0)
    words = np.nan_to_num(bm25, nan=_lowest(bm25)) / (top if top > 0 else 1.0)
    return (1 - fusion.weight) * words + fusion.weight * np.nan_to_num(scores, nan=_lowest(scores)) / fusion.unit


def order(fusion: Fusion, bm25: Floats, scores: Floats) -> NDArray[np.intp]:
    """The passages' places, best first; equals keep the places' own order."""
    return np.argsort(-fused(fusion, bm25, scores), kind="stable")


def _reciprocal(values: Floats) -> Floats:
    """1 / (60 + rank) by falling value, equals in their order; 0 for NaN."""
    places = np.argsort(-values, kind="stable")  # NaN goes last
    ranks = np.empty(len(values))
    ranks[places] = np.arange(1, len(values) + 1)
    return np.where(np.isnan(values), 0.0, 1.0 / (CONSTANT + ranks))


def _lowest(values: Floats) -> float:
    there = values[~np.isnan(values)]
    return float(there.min()) if len(there) else 0.0


@dataclass(frozen=True, slots=True)
class Judged:
    """A held-out question's passages: both lists' scores (P,), and which are needed, a row each judge (J, P).

    `says` (J,) is how much each judge counts; together they count 1.
    """

    bm25: Floats
    scores: Floats
    needed: NDArray[np.bool_]
    says: Floats

    def worth(self, fusion: Fusion) -> float:
        """Mean over the judges of nDCG@10 among these passages; 0 by a judge who needs none of them."""
        found = self.needed[:, order(fusion, self.bm25, self.scores)][:, :DEPTH]
        discount = 1 / np.log2(np.arange(2, DEPTH + 2))
        gain = found @ discount[: found.shape[1]]
        ideal = np.cumsum(discount)[np.clip(self.needed.sum(axis=1), 1, DEPTH) - 1]
        return float(self.says @ (gain / ideal))


@dataclass(frozen=True, slots=True)
class Tuned:
    """The fusion that was chosen, and what each way was worth on the same questions."""

    fusion: Fusion
    questions: int
    bm25: float = 0.0
    second: float = 0.0
    fused: float = 0.0

    def metrics(self) -> dict[str, object]:
        """As kept in the store."""
        return {
            "held_out": self.questions,
            **{name: round(getattr(self, name), 4) for name in ("bm25", "second", "fused")},
        }


def tune(judged: Sequence[Judged]) -> Tuned:
    """The best fusion for these questions; equal ranks for too few of them.

    A weight's worth is averaged with its neighbours', so that one lucky weight does not win.
    """
    spreads = [float(np.nanstd(j.scores)) for j in judged if np.isfinite(j.scores).sum() > 1]
    unit = float(np.mean(spreads)) if spreads else 0.0
    if len(judged) < ENOUGH or unit <= 0:
        return Tuned(Fusion(), len(judged))
    best, most = Fusion(), -1.0
    for kind in ("ranks", "scores"):
        tried = [Fusion(kind, weight, unit if kind == "scores" else 1.0) for weight in WEIGHTS]
        worth = np.array([np.mean([j.worth(fusion) for j in judged]) for fusion in tried])
        padded = np.pad(worth, 1, mode="edge")
        for fusion, value in zip(tried, (padded[:-2] + padded[1:-1] + padded[2:]) / 3, strict=True):
            if value > most + 1e-9:
                best, most = fusion, float(value)

    def mean(fusion: Fusion) -> float:
        return float(np.mean([j.worth(fusion) for j in judged]))

    return Tuned(best, len(judged), mean(replace(best, weight=0.0)), mean(replace(best, weight=1.0)), mean(best))
