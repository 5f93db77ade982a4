"""How well orders of passages find what questions need: Hits@k, MRR, nDCG and recall, with paired intervals; pure.

A question needs units: documents of gold evidence, any passage of which will do, or a rationale's first passages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KS = (1, 3, 5, 10)  # the paper's Hits@k
NDCG = 10
DRAWS = 10_000  # of the bootstrap
AT_ONCE = 1 << 21  # counts in memory

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Need:
    """What one question needs: the unit of each passage that belongs to one."""

    units: Mapping[str, str]  # by passage id

    @property
    def count(self) -> int:
        """Number of units."""
        return len(set(self.units.values()))


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean of differences over questions with the 95% interval of the bootstrap."""

    mean: float
    low: float
    high: float

    @property
    def sure(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        mean, low, high = (f"{value:+.3f}".replace("0.", ".", 1) for value in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]"


def metrics(depth: int) -> tuple[str, ...]:
    """The names of what `measured` gives, in its order."""
    return (*(f"Hits@{k}" for k in KS), "MRR", f"nDCG@{NDCG}", f"recall@{depth}")


def measured(order: Sequence[str], need: Need, depth: int) -> Floats:
    """The metrics of one question's order, (M,), each in [0, 1]. A unit counts where its first passage stands."""
    ranks: dict[str, int] = {}
    for rank, passage in enumerate(order[:depth], 1):
        unit = need.units.get(passage)
        if unit is not None:
            ranks.setdefault(unit, rank)
    first = min(ranks.values(), default=0)
    gain = sum(1 / np.log2(rank + 1) for rank in ranks.values() if rank <= NDCG)
    ideal = sum(1 / np.log2(rank + 1) for rank in range(1, min(NDCG, need.count) + 1))
    return np.array(
        [
            *(float(0 < first <= k) for k in KS),
            1 / first if first else 0.0,
            gain / ideal if ideal else 0.0,
            len(ranks) / need.count if need.count else 0.0,
        ]
    )


def first_ranks(orders: Sequence[Sequence[str]], needs: Sequence[Need]) -> list[int | None]:
    """The rank of each question's first needed passage, None when there is none."""
    return [
        next((rank for rank, passage in enumerate(order, 1) if passage in need.units), None)
        for order, need in zip(orders, needs, strict=True)
    ]


def paired(ours: Floats, theirs: Floats, *, draws: int = DRAWS, seed: int = 0) -> list[Difference]:
    """Mean of `ours` - `theirs`, both (Q questions, M metrics), for each metric, with its percentile interval.

    Questions are drawn with replacement, the same ones for both (Efron and Tibshirani 1993, chapter 13).
    """
    if ours.shape != theirs.shape or len(ours) == 0:
        raise ValueError(f"no pairs in shapes {ours.shape} and {theirs.shape}")
    difference = ours - theirs
    rng = np.random.default_rng(seed)
    size = len(difference)
    together = max(1, AT_ONCE // size)  # draws at a time
    means = np.concatenate(
        [
            rng.multinomial(size, np.full(size, 1 / size), size=min(together, draws - start)) @ difference / size
            for start in range(0, draws, together)
        ]
    )
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return [
        Difference(float(m), float(a), float(b)) for m, a, b in zip(difference.mean(axis=0), low, high, strict=True)
    ]
