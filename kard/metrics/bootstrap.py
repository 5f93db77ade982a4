"""Bootstrap intervals of means over questions: percentiles of seeded resamples (B. Efron, Ann. Statist. 1979)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DRAWS = 10_000  # resamples; the limits of a 95% interval then wobble by about a fiftieth of its width
TAIL = 0.025  # of the resamples on each side
MOST_COUNTS = 1 << 21  # counts in memory at once


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean of differences over questions with its 95% bootstrap interval."""

    mean: float
    low: float
    high: float

    @property
    def short(self) -> str:
        """Return mean and interval for narrow tables: `+.140 [-.030, +.250]`."""
        mean, low, high = (f"{value:+.3f}".replace("0.", ".", 1) for value in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]"

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def bootstrap(values: Sequence[float], *, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """Return the 95% interval of the mean of one value per question. Equal seeds give equal limits.

    Values of 0 and 1 give the interval of a share. Differences between two conditions on the same questions give
    the paired bootstrap. Questions with equal values are interchangeable, so only the number of each value is
    drawn: the cost depends on the number of distinct values.
    Raises ValueError without values.
    """
    if not values:
        raise ValueError("no values have no interval")
    import numpy as np

    counts = sorted(Counter(values).items())
    distinct = np.array([value for value, _ in counts], dtype=np.float64)
    low, high = _interval(distinct, np.array([count for _, count in counts], dtype=np.float64), draws, seed)
    return float(low), float(high)


def paired_bootstrap(ours: Floats, theirs: Floats, *, draws: int = DRAWS, seed: int = 0) -> list[Difference]:
    """Return the mean of `ours` - `theirs` with its interval for each metric; both are (Q questions, M metrics).

    The same questions are drawn for both (Efron and Tibshirani 1993, chapter 13).
    Raises ValueError if the shapes differ or there are no questions.
    """
    if ours.shape != theirs.shape or len(ours) == 0:
        raise ValueError(f"no pairs in shapes {ours.shape} and {theirs.shape}")
    import numpy as np

    differences = ours - theirs
    low, high = _interval(differences, np.ones(len(differences)), draws, seed)
    return [
        Difference(float(mean), float(at_low), float(at_high))
        for mean, at_low, at_high in zip(differences.mean(axis=0), low, high, strict=True)
    ]


def bootstrap_over_seeds(*rights: Floats, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """Return the 95% interval of a condition's mean, or of the first condition's mean minus the second's.

    Each of `rights` is (S seeds, Q questions), with NaN where a seed did not answer; all have the same questions.
    Each draw takes seeds of each condition, then questions: the same ones for every seed and condition, since
    seeds answer the same questions. So the interval says what new trainings and new questions would give.
    Raises ValueError without questions.
    """
    if not rights or not rights[0].shape[1]:
        raise ValueError("no values have no interval")
    import numpy as np

    rng = np.random.default_rng(seed)
    count = rights[0].shape[1]
    block = max(1, MOST_COUNTS // count)  # draws at a time
    means: list[Floats] = []
    for start in range(0, draws, block):
        size = min(block, draws - start)
        questions = rng.multinomial(count, np.full(count, 1 / count), size=size)
        of_conditions: list[Floats] = []
        for values in rights:
            seeds = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=size)
            answered = ((seeds @ ~np.isnan(values)) * questions).sum(axis=1)
            right = ((seeds @ np.nan_to_num(values)) * questions).sum(axis=1)
            of_conditions.append(right / np.maximum(answered, 1))
        means.append(of_conditions[0] - (of_conditions[1] if len(rights) > 1 else 0))
    low, high = np.quantile(np.concatenate(means), [TAIL, 1 - TAIL])
    return float(low), float(high)


def _interval(values: Floats, counts: Floats, draws: int, seed: int) -> Floats:
    """Return both limits of the mean of `values`, (V,) or (V, M), of which each occurs `counts` times, (V,)."""
    import numpy as np

    rng = np.random.default_rng(seed)
    of = int(counts.sum())
    block = max(1, MOST_COUNTS // len(values))  # draws at a time
    means = [
        rng.multinomial(of, counts / of, size=min(block, draws - start)) @ values / of
        for start in range(0, draws, block)
    ]
    return np.quantile(np.concatenate(means), [TAIL, 1 - TAIL], axis=0)
