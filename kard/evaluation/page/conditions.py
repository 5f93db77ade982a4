"""What each condition of a split got and cost: the points that the figures show. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from kard.config import METHODS
from kard.evaluation.export import retriever_names
from kard.evaluation.intervals import Share, wilson
from kard.evaluation.report import BASELINES, Graded, Line, accuracy_lines

if TYPE_CHECKING:
    from kard.evaluation.failures import Condition

Row = Mapping[str, object]
Key = tuple[str, str, str]  # size, method, retriever

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmbt])", re.I)
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


@dataclass(frozen=True, slots=True)
class Point:
    """A condition: accuracy over all questions, FLOPs a question, and what its lessons cost."""

    size: str
    method: str
    retriever: str
    share: Share
    flops: float  # mean a question
    lessons: int  # rationales that the student learned from

    @property
    def series(self) -> str:
        """Method and retriever: what is the same across sizes."""
        return series_name(self.method, self.retriever)

    @property
    def name(self) -> str:
        """Size and series."""
        return f"{self.size} {self.series}"


def series_name(method: str, retriever: str) -> str:
    """`kard, bm25`; a method that reads nothing is its own name."""
    return method if retriever in ("none", "-") else f"{method}, {retriever}"


def names_of(conditions: Iterable[Condition]) -> dict[int, str]:
    """A name for each evaluation: size, method, retriever, with k, seed and number where those are not enough."""
    groups: dict[str, list[Condition]] = defaultdict(list)
    for condition in conditions:
        groups[f"{condition.size} {series_name(condition.method, condition.retriever)}"].append(condition)
    names: dict[int, str] = {}
    for name, group in groups.items():
        for one in group:
            full = name
            for word, value, values in (
                ("k =", one.k, {c.k for c in group}),
                ("seed", one.seed, {c.seed for c in group}),
            ):
                full += f", {word} {value}" if len(values) > 1 else ""
            alike = sum((c.k, c.seed) == (one.k, one.seed) for c in group)
            names[one.evaluation_id] = full + (f", no. {one.evaluation_id}" if alike > 1 else "")
    return names


def points(graded: Sequence[Row], lessons: Mapping[Key, int]) -> list[Point]:
    """One point a condition in the order of the accuracy table; seeds of one condition are pooled."""
    flops: dict[Key, list[float]] = defaultdict(list)
    for row in graded:
        key = (str(row["size"]), str(row["method"]), str(row["retriever"]))
        flops[key].append(float(str(row["flops"])))
    found: list[Point] = []
    for line in accuracy_lines([Graded.of(row) for row in graded]):
        key = (line.size, line.method, line.retriever)
        if line.method not in BASELINES:
            learned = lessons.get(key, 0) if reasons(line.method) else 0
            found.append(Point(*key, line.shares["all"], fmean(flops[key]), learned))
    return found


def reasons(method: str) -> bool:
    """Whether a method learns from rationales."""
    return method in METHODS and METHODS[method].reasons


def baseline(lines: Sequence[Line], name: str) -> float | None:
    """The accuracy of a baseline over all questions, None when the table has no such line."""
    return next((line.shares["all"].value for line in lines if line.method == name), None)


def sizes_of(found: Sequence[Point]) -> list[str]:
    """Sizes, small ones first; names that hold no number of parameters come after, in alphabetical order."""
    return sorted({point.size for point in found}, key=lambda size: (_parameters(size) or float("inf"), size))


def _parameters(size: str) -> float | None:
    match = _SIZE.search(size)
    return float(match[1]) * _UNITS[match[2].lower()] if match else None


@dataclass(frozen=True, slots=True)
class Curve:
    """Hits@k of one retriever: `shares[k - 1]` is the share of questions with a needed passage in the first k."""

    retriever: str
    gold: str  # 'evidence' or 'silver'
    shares: Sequence[Share]


def curves(first_hits: Sequence[Row], depth: int) -> list[Curve]:
    """A curve for each kind of gold and retriever, to the depth that was searched; BM25 first.

    A row has `gold`, `retriever` (see `retriever_names`) and `rank`, the first needed passage's, or None.
    """
    groups: dict[tuple[str, str], list[int | None]] = defaultdict(list)
    for row in first_hits:
        rank = row["rank"]
        groups[str(row["gold"]), str(row["retriever"])].append(None if rank is None else int(str(rank)))
    names = retriever_names(retriever for _, retriever in groups)
    made: list[Curve] = []
    for (gold, retriever), ranks in sorted(groups.items(), key=lambda g: (g[0][0], g[0][1] != "bm25", g[0][1])):
        shares = [wilson(sum(r is not None and r <= k for r in ranks), len(ranks)) for k in range(1, depth + 1)]
        made.append(Curve(names[retriever], gold, shares))
    return made
