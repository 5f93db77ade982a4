"""One look for each method and each retriever, the same in every figure of a page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kard.evaluation.page.conditions import Point

INK, FAINT, PAPER = "#101112", "#707172", "#fefdfc"
SERIES = ("#1f6fb4", "#b85c00", "#1e7d46", "#c0357a", "#6f4bb8", "#0b7a83", "#8a5a2b", "#6b7300")
"""Drawn in these colours; the page's style sheet has a value for light and one for dark for each."""

# What is read decides the colour; a method that reads nothing has its own. Who reads decides mark and line.
_COLOURS = ("bm25", "reranker", "silver", "rd", "hybrid", "dense", "shuffled", "fused")
_MARKS = {"ft": "s", "kard": "o", "rd": "^", "ka-ft": "D", "zero-shot": "v", "few-shot": "P", "few-shot-cot": "X"}
_LINES = {"ft": "--", "ka-ft": "-."}
_OTHER_MARKS = "<>p*h"


@dataclass(frozen=True, slots=True)
class Look:
    """How something is drawn."""

    colour: str
    marker: str
    line: str


def looks_of(found: Iterable[Point]) -> dict[str, Look]:
    """A look for each series: `ft`, the line that the others are held against, in ink and dashed."""
    looks: dict[str, Look] = {}
    for point in found:
        read = point.method if point.retriever in ("none", "-") else point.retriever
        if point.series not in looks:
            known = "" if point.variant else _MARKS.get(point.method)  # variants of a method differ by mark alone
            mark = known or _OTHER_MARKS[len(looks) % len(_OTHER_MARKS)]
            looks[point.series] = Look(colour_of(read, len(looks)), mark, _LINES.get(point.method, "-"))
    return looks


def retriever_look(retriever: str, number: int) -> Look:
    """How the `number`-th retriever of a figure without students is drawn."""
    return Look(colour_of(retriever, number), "osD^vPX"[number % 7], "--" if retriever == "bm25" else "-")


def colour_of(name: str, number: int) -> str:
    """The colour of a retriever, or of a method that reads nothing; the `number`-th one for a name of one's own."""
    if name == "ft":
        return INK
    return SERIES[_COLOURS.index(name) if name in _COLOURS else number % len(SERIES)]
