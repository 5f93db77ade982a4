"""Bootstrap intervals of a mean over questions: percentiles of seeded resamples (B. Efron, Ann. Statist. 1979)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

DRAWS = 10_000  # resamples; the limits of a 95% interval then wobble by about a fiftieth of its width
TAIL = 0.025  # of the resamples on each side


def bootstrap(values: Sequence[float], *, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """The 95% interval of the mean of one value a question, by resampling questions; equal seeds, equal limits.

    With values of 0 and 1 it is the interval of a share. With differences between two conditions on the same
    questions it is the paired bootstrap. Questions that have the same value are alike, so a resample is a draw
    of how many of each value there are: the cost does not depend on the number of questions.
    Raises ValueError without values.
    """
    if not values:
        raise ValueError("no values have no interval")
    import numpy as np

    counts = sorted(Counter(values).items())
    kinds = np.array([value for value, _ in counts])
    shares = np.array([count for _, count in counts]) / len(values)
    drawn = np.random.default_rng(seed).multinomial(len(values), shares, size=draws)  # (draws, kinds)
    low, high = np.quantile(drawn @ kinds / len(values), [TAIL, 1 - TAIL])
    return float(low), float(high)
