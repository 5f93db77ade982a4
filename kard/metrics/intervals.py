"""Shares with their intervals, and the spread over seeds. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

Z95 = 1.959963984540054  # the normal distribution's two-sided 95% point


@dataclass(frozen=True, slots=True)
class Share:
    """A share of questions with its 95% interval, all in [0, 1].

    `right` is a whole number for one run. Over several seeds it is the mean of the runs.
    """

    right: float
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """Return the share itself; 0 of 0 is 0."""
        return self.right / self.of if self.of else 0.0

    def shown(self, places: int) -> str:
        """Return the share and its interval with this many decimals."""
        return f"{self.value:.{places}f} [{self.low:.{places}f}, {self.high:.{places}f}]"

    def __str__(self) -> str:
        return self.shown(3)


def wilson(right: float, of: int) -> Share:
    """Return the share `right` / `of` with Wilson's score interval (E. B. Wilson, JASA 1927).

    The interval holds for small counts too. The mean of several seeds need not be whole. Its interval is that of
    one run over as many questions, since more seeds are not more questions. The mean of several runs varies less
    than one run, so the interval is too wide rather than too narrow.
    Raises ValueError if `right` is not between 0 and `of`.
    """
    if not 0 <= right <= of:
        raise ValueError(f"{right} of {of} is not a share")
    if of == 0:
        return Share(0, 0, 0.0, 1.0)
    share, spread = right / of, Z95 * Z95 / of
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 * sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    # At 0 and 1, rounding would put the share just outside its own interval.
    return Share(right, of, min(max(0.0, centre - half), share), max(min(1.0, centre + half), share))


@dataclass(frozen=True, slots=True)
class Bias:
    """The commonest answer with its share of the answers that could be read."""

    answer: str  # a letter
    share: float

    def __str__(self) -> str:
        return f"{self.answer} {self.share:.2f}".replace(" 0.", " .")


def bias_of(answers: Iterable[str | None]) -> Bias | None:
    """Return the commonest of the answers, the first letter of a tie; None if none could be read."""
    given = Counter(answer for answer in answers if answer is not None)
    if not given:
        return None
    letter, count = min(given.items(), key=lambda item: (-item[1], item[0]))
    return Bias(letter, count / given.total())


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample standard deviation (n - 1) over seeds. A single seed has no deviation."""

    mean: float
    deviation: float | None
    of: int

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.deviation is None else f"{self.mean:.3f} ± {self.deviation:.3f}"


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of one number per seed. Raises ValueError without any."""
    if not values:
        raise ValueError("no values have no spread")
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None, len(values))
