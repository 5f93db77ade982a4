"""Take the vote over several answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kard.answers.short import normalized
from kard.records import LETTERS


def counted(answers: Sequence[str | None]) -> list[tuple[str, int]]:
    """Return each answer with its votes, the commonest first, of equals the earliest.

    Short answers that differ only in what `normalized` forgives are one, in its first wording.
    """
    wordings: dict[str, str] = {}
    votes = Counter[str]()
    for answer in answers:
        if answer is not None:
            votes[normalized(answer)] += 1
            wordings.setdefault(normalized(answer), answer)
    # most_common keeps first-seen order among equals
    return [(wordings[key], count) for key, count in votes.most_common()]


def majority(answers: Sequence[str | None]) -> tuple[str | None, int]:
    """Return the commonest answer and its votes (section 3.4). The earliest wins a tie; (None, 0) without votes."""
    return next(iter(counted(answers)), (None, 0))


def vote(answers: Sequence[str | None], shares: Sequence[Sequence[float]] = ()) -> tuple[str | None, int]:
    """Return the answer of several samples and how many of them gave it.

    It is the commonest one; where every sample has `shares` of each option, the option with the greatest sum.
    """
    if not shares or not all(shares):
        return majority(answers)
    sums = [sum(of_option) for of_option in zip(*shares, strict=True)]
    winner = LETTERS[sums.index(max(sums))]
    return winner, sum(answer == winner for answer in answers)
