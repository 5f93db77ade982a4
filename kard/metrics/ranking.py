"""How well an order of passages finds the relevant ones: Hits@k, MRR, nDCG and recall. Pure.

Relevance is counted in units. A unit is a gold document, of which any passage will do, or a single passage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kard.config import CUTOFFS

NDCG_CUTOFF = 10

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RelevantPassages:
    """The passages that are relevant to one question, with the unit that each belongs to."""

    units: Mapping[str, str]  # by passage id
    missing: int = 0  # units without a passage: the knowledge base lacks them, so no order can find them

    @property
    def count(self) -> int:
        """Return the number of units, missing ones included."""
        return len(set(self.units.values())) + self.missing

    @property
    def ceiling(self) -> float:
        """Return the share of units that the knowledge base holds: the highest recall."""
        return 1 - self.missing / self.count if self.count else 0.0


def metric_names(depth: int) -> tuple[str, ...]:
    """Return the names of the values of `ranking_metrics`, in its order."""
    return (*(f"Hits@{k}" for k in CUTOFFS), "MRR", f"nDCG@{NDCG_CUTOFF}", f"recall@{depth}")


def ranking_metrics(order: Sequence[str], relevant: RelevantPassages, depth: int) -> Floats:
    """Return the metrics of the first `depth` passages of one question's order: (M,), each in [0, 1].

    A unit counts once, at the rank of its first passage.
    """
    ranks: dict[str, int] = {}
    for rank, passage in enumerate(order[:depth], 1):
        unit = relevant.units.get(passage)
        if unit is not None:
            ranks.setdefault(unit, rank)
    first = min(ranks.values(), default=0)
    found = set(ranks.values())
    gain = _discounted([float(rank in found) for rank in range(1, NDCG_CUTOFF + 1)])
    ideal = _discounted([1.0] * min(NDCG_CUTOFF, relevant.count))
    return np.array(
        [
            *(float(0 < first <= k) for k in CUTOFFS),
            1 / first if first else 0.0,
            gain / ideal if ideal else 0.0,
            len(ranks) / relevant.count if relevant.count else 0.0,
        ]
    )


def graded_ndcg(order: Sequence[str], gains: Mapping[str, float], cutoff: int = NDCG_CUTOFF) -> float:
    """Return nDCG of one question's order with these gains; 0.0 where nothing has a gain."""
    ideal = _discounted(sorted(gains.values(), reverse=True)[:cutoff])
    return _discounted([gains.get(item, 0.0) for item in order[:cutoff]]) / ideal if ideal else 0.0


def _discounted(gains: Sequence[float]) -> float:
    """Return the sum of the gains, each divided by the logarithm of its rank plus one."""
    return sum(float(gain / np.log2(rank + 1)) for rank, gain in enumerate(gains, 1))


def first_ranks(orders: Sequence[Sequence[str]], relevant: Sequence[RelevantPassages]) -> list[int | None]:
    """Return the rank of each question's first relevant passage; None if its order has none."""
    return [
        next((rank for rank, passage in enumerate(order, 1) if passage in of_question.units), None)
        for order, of_question in zip(orders, relevant, strict=True)
    ]
