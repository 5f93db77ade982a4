"""Intervals that resample trainings too. Pure over right answers, by seed and question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kard.config import LEAST_SEEDS
from kard.metrics.bootstrap import bootstrap_over_seeds
from kard.metrics.intervals import Share

if TYPE_CHECKING:
    from kard.metrics.bootstrap import Floats

RightsBySeed = Mapping[int, Mapping[str, int]]  # 1 or 0 by seed and question key


def rights_matrix(rights: RightsBySeed, keys: Sequence[str]) -> Floats:
    """Return 1 or 0 for each seed's answer to each question of `keys`, (S, Q), with NaN where there is none."""
    import numpy as np

    return np.array([[of_seed.get(key, np.nan) for key in keys] for of_seed in rights.values()], dtype=np.float64)


def share_over_seeds(share: Share, rights: RightsBySeed, seed: int) -> Share:
    """Return the share with its interval over seeds and questions; the share itself without answers."""
    keys = sorted({key for of_seed in rights.values() for key in of_seed})
    if not keys:
        return share
    low, high = bootstrap_over_seeds(rights_matrix(rights, keys), seed=seed)
    return replace(share, low=low, high=high)


def interval_note(*, over_seeds: bool) -> str:
    """Return what the intervals of a report's accuracies mean."""
    if over_seeds:
        return (
            "95% intervals over seeds and questions (hierarchical bootstrap): new trainings, new questions; "
            f"none for fewer than {LEAST_SEEDS} seeds"
        )
    return "95% intervals over questions (Wilson), with the trainings as they are"
