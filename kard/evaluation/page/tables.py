"""Tables of a page, and what they show as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kard.metrics.intervals import Share, Spread


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a header. The first `names` cells of a row name it; the others are values, to the right."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    names: int = 1


def percent(value: float) -> str:
    """A share as the page writes it: `61.0%`."""
    return f"{100 * value:.1f}%"


def with_interval(share: Share) -> str:
    """A share with its 95% interval: `61.0% [51.2, 70.0]`."""
    return f"{percent(share.value)} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def over_seeds(seeds: Spread | None) -> str:
    """Standard deviation over seeds and their number: `± 1.2 (3)`."""
    if seeds is None:
        return ""
    return f"({seeds.of})" if seeds.deviation is None else f"± {100 * seeds.deviation:.1f} ({seeds.of})"


def amount(value: float) -> str:
    """A large number in three figures and its thousand's letter: `37.8 G`."""
    for letter, unit in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= unit:
            return f"{value / unit:.3g} {letter}"
    return f"{value:.3g}"


def money(value: float) -> str:
    """US dollars; small sums keep two figures that count."""
    return f"${value:,.2f}" if value >= 0.1 or value == 0 else f"${value:.2g}"
