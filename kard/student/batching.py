"""Rows in groups that fit what one pass may hold."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence


def grouped(lengths: Sequence[int], most: int, rows: int | None = None) -> Iterator[range]:
    """Consecutive rows, as many as hold `most` when padded to the longest, and at most `rows`; one at least."""
    start = longest = 0
    for row, length in enumerate(lengths):
        many = row + 1 - start
        if row > start and (max(longest, length) * many > most or (rows is not None and many > rows)):
            yield range(start, row)
            start, longest = row, 0
        longest = max(longest, length)
    if lengths:
        yield range(start, len(lengths))


def distinct(rows: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    """The place of the first of equal rows, and for each row which of these it equals."""
    first: dict[Hashable, int] = {}
    for place, row in enumerate(rows):
        first.setdefault(row, place)
    number = {row: i for i, row in enumerate(first)}
    return list(first.values()), [number[row] for row in rows]
