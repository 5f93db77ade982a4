"""Take the vote over several answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kard.records import LETTERS


def majority(answers: Sequence[str | None]) -> tuple[str | None, int]:
    """Return the commonest answer and its votes (section 3.4). The earliest wins a tie; (None, 0) without votes."""
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return None, 0
    return votes.most_common(1)[0]  # most_common keeps first-seen order among equals


def vote(answers: Sequence[str | None], shares: Sequence[Sequence[float]] = ()) -> tuple[str | None, int]:
    """Return the answer of several samples and how many of them gave it.

    It is the commonest one; where every sample has `shares` of each option, the option with the greatest sum.
    """
    if not shares or not all(shares):
        return majority(answers)
    sums = [sum(of_option) for of_option in zip(*shares, strict=True)]
    winner = LETTERS[sums.index(max(sums))]
    return winner, sum(answer == winner for answer in answers)
