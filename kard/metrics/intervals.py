"""Votes, shares and their intervals, and the spread over seeds: pure functions over counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

Z95 = 1.959963984540054  # the normal distribution's two-sided 95% point


@dataclass(frozen=True, slots=True)
class Share:
    """A share of questions with its 95% interval, all in [0, 1].

    `right` is a whole number for one run; over several seeds it is the mean of the runs.
    """

    right: float
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself; 0 of 0 is 0."""
        return self.right / self.of if self.of else 0.0

    def shown(self, places: int) -> str:
        """The share and its interval with so many decimals."""
        return f"{self.value:.{places}f} [{self.low:.{places}f}, {self.high:.{places}f}]"

    def __str__(self) -> str:
        return self.shown(3)


def wilson(right: float, of: int) -> Share:
    """`right` of `of` with Wilson's score interval (E. B. Wilson, JASA 1927), which holds for small counts.

    The mean of several seeds is no whole number. Its interval is that of one run over as many questions: seeds
    do not make questions, and the mean of several runs varies less from question to question than one run does,
    so that the interval is rather too wide than too narrow.
    """
    if not 0 <= right <= of:
        raise ValueError(f"{right} of {of} is not a share")
    if of == 0:
        return Share(0, 0, 0.0, 1.0)
    share, spread = right / of, Z95 * Z95 / of
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 * sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    # At 0 and 1 rounding would leave the share a hair outside its own interval.
    return Share(right, of, min(max(0.0, centre - half), share), max(min(1.0, centre + half), share))


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample standard deviation (n - 1) over seeds; a single seed has no deviation."""

    mean: float
    deviation: float | None
    of: int

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.deviation is None else f"{self.mean:.3f} ± {self.deviation:.3f}"


def spread(values: Sequence[float]) -> Spread:
    """The spread of one number a seed. Raises ValueError without any."""
    if not values:
        raise ValueError("no values have no spread")
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None, len(values))
