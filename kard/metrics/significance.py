"""Exact tests of two conditions on the same questions, and Holm's correction over a table of them: pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

ALPHA = 0.05
NOT_DISTINGUISHABLE = "not distinguishable"


def mcnemar(wins: int, losses: int) -> float:
    """McNemar's exact two-sided p: how often as uneven a split of the discordant questions comes by chance.

    `wins` are the questions that only the first condition got right, `losses` those that only the second did.
    Under the null hypothesis either is binomial with probability 1/2 (Q. McNemar, Psychometrika 1947).
    Raises ValueError for negative counts.
    """
    if wins < 0 or losses < 0:
        raise ValueError(f"{wins} and {losses} are not counts")
    of = wins + losses
    tail = sum(comb(of, count) for count in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2**of)  # whole numbers up to here: no rounding however many questions


def sign_flips(differences: Sequence[int]) -> float:
    """The exact two-sided p that the differences, one a question, add up to as much by the luck of their signs.

    This is Fisher's randomisation test for pairs (The Design of Experiments, 1935, section 21), over all 2^n
    signs at once. With differences of -1, 0 and 1 it is `mcnemar`; with several seeds a question's difference
    is the one between the numbers of its right answers, so that seeds count as what they are: the same questions.
    """
    sizes = [abs(d) for d in differences if d]
    if not sizes:
        return 1.0
    if max(sizes) == 1:
        wins = sum(d > 0 for d in differences)
        return mcnemar(wins, len(sizes) - wins)
    import numpy as np

    reach = sum(sizes)
    chance = np.zeros(2 * reach + 1)  # of each sum from -reach to reach
    chance[reach] = 1.0
    for size in sizes:
        chance = (np.roll(chance, size) + np.roll(chance, -size)) / 2  # nothing comes round: no sum exceeds reach
    extreme = abs(sum(differences))
    return min(
        1.0, float(chance[: reach - extreme + 1].sum() + chance[reach + extreme :].sum()) if extreme else 1.0
    )


def holm(ps: Sequence[float]) -> list[float]:
    """The p values adjusted for being several, in their own order (S. Holm, Scand. J. Statist. 1979).

    Rejecting those below alpha keeps the chance of any false rejection below alpha, whatever their dependence.
    """
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = highest
    return adjusted


def p_text(p: float) -> str:
    """A p value as a table shows it: `0.034`, `2.0e-05`; what cannot be told from 0 has its bound."""
    if p < 1e-12:
        return "<1e-12"
    return f"{p:.1e}" if p < 0.0005 else f"{p:.3f}"
