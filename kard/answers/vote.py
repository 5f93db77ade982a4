"""Take the vote over several answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def majority(answers: Sequence[str | None]) -> tuple[str | None, int]:
    """Return the commonest answer and its votes (section 3.4). The earliest wins a tie; (None, 0) without votes."""
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return None, 0
    return votes.most_common(1)[0]  # most_common keeps first-seen order among equals
