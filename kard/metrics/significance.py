"""Exact tests of two conditions on the same questions, and Holm's correction for several of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

ALPHA = 0.05
NOT_DISTINGUISHABLE = "not distinguishable"


def mcnemar(wins: int, losses: int) -> float:
    """Return McNemar's exact two-sided p: the chance of a split of the discordant questions at least as uneven.

    Only the first condition got `wins` questions right, only the second `losses`. Under the null hypothesis both
    are binomial with probability 1/2 (Q. McNemar, Psychometrika 1947).
    Raises ValueError for negative counts.
    """
    if wins < 0 or losses < 0:
        raise ValueError(f"{wins} and {losses} are not counts")
    of = wins + losses
    tail = sum(comb(of, count) for count in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2**of)  # integers up to here, so nothing is rounded


def sign_flips(differences: Sequence[int]) -> float:
    """Return the exact two-sided p of a sum of differences, one per question, under random signs.

    This is Fisher's randomisation test for pairs (The Design of Experiments, 1935, section 21), over all 2^n signs.
    With differences of -1, 0 and 1 it equals `mcnemar`. With several seeds, the difference of a question is between
    the numbers of its right answers: more seeds are not more questions.
    """
    sizes = [abs(d) for d in differences if d]
    if not sizes:
        return 1.0
    if max(sizes) == 1:
        wins = sum(d > 0 for d in differences)
        return mcnemar(wins, len(sizes) - wins)
    import numpy as np

    reach = sum(sizes)
    chance = np.zeros(2 * reach + 1)  # the probability of each sum from -reach to reach
    chance[reach] = 1.0
    for size in sizes:
        chance = (np.roll(chance, size) + np.roll(chance, -size)) / 2  # nothing wraps round: no sum exceeds reach
    extreme = abs(sum(differences))
    return min(
        1.0, float(chance[: reach - extreme + 1].sum() + chance[reach + extreme :].sum()) if extreme else 1.0
    )


def holm(ps: Sequence[float]) -> list[float]:
    """Return the p values adjusted for their number, in their own order (S. Holm, Scand. J. Statist. 1979).

    If those below alpha are rejected, the chance of any false rejection is below alpha, even for dependent tests.
    """
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = highest
    return adjusted


def p_text(p: float) -> str:
    """Return a p value for a table: `0.034`, `2.0e-05`, or `<1e-12` for anything smaller."""
    if p < 1e-12:
        return "<1e-12"
    return f"{p:.1e}" if p < 0.0005 else f"{p:.3f}"
