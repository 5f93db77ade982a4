"""What each condition of a split got and cost: the points that the figures show. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from kard.evaluation.export import retriever_names
from kard.evaluation.report import BASELINES, ReportRow, size_place
from kard.evaluation.summary import TeacherCosts
from kard.evaluation.verdicts import VERDICTS
from kard.metrics.intervals import Share, wilson

if TYPE_CHECKING:
    from kard.evaluation.failures import FailureCounts, FailureRow

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Point:
    """A condition: accuracy over all questions, and what an answer and its lessons take."""

    size: str
    method: str
    retriever: str
    variant: str  # what else tells it from another one, '' for nothing
    share: Share
    flops: float | None = None  # mean a question
    dollars: float | None = None  # paid to a teacher for its lessons
    tokens: float | None = None  # of the teacher, for its lessons

    @property
    def series(self) -> str:
        """All but the size."""
        return series_name(self.method, self.retriever, self.variant)

    @property
    def name(self) -> str:
        """Size and series."""
        return f"{self.size} {self.series}"


def series_name(method: str, retriever: str, variant: str) -> str:
    """`kard, bm25 k=1`; what reads nothing is named by its method."""
    reads = "" if retriever in ("none", "-") else retriever
    more = " ".join(part for part in (reads, variant) if part)
    return f"{method}, {more}" if more else method


def points(lines: Sequence[ReportRow], dollars: TeacherCosts, tokens: TeacherCosts) -> list[Point]:
    """One point a condition, in the order of the accuracy table, without the baselines.

    `tokens` are the teacher's, in the place of its dollars.
    """
    return [
        Point(
            line.size,
            line.method,
            line.retriever,
            line.variant,
            line.shares["all"],
            line.cost.flops,
            dollars.price(line),
            tokens.price(line),
        )
        for line in lines
        if line.method not in BASELINES
    ]


def baseline(lines: Sequence[ReportRow], name: str) -> float | None:
    """The accuracy of a baseline over all questions, None when the table has no such line."""
    return next((line.shares["all"].value for line in lines if line.method == name), None)


def names_of(conditions: Iterable[FailureCounts]) -> dict[int, str]:
    """A name for each evaluation: that of its point, and its seed where there are several."""
    groups: dict[str, list[FailureCounts]] = defaultdict(list)
    for one in conditions:
        groups[f"{one.size} {series_name(one.method, one.retriever, one.variant)}"].append(one)
    return {
        one.evaluation_id: f"{name}, seed {one.seed}" if len({c.seed for c in group}) > 1 else name
        for name, group in groups.items()
        for one in group
    }


def sizes_of(found: Sequence[Point]) -> list[str]:
    """Sizes, small ones first; names that hold no number of parameters come after, in alphabetical order."""
    return sorted({point.size for point in found}, key=size_place)


def without_seeds(wrong: Iterable[FailureRow]) -> list[tuple[str, Mapping[str, float]]]:
    """Name and mean count of each verdict over the seeds of a condition, in the order given."""
    groups: dict[str, list[FailureRow]] = defaultdict(list)
    for line in wrong:
        one = line.condition
        groups[f"{one.size} {series_name(one.method, one.retriever, one.variant)}"].append(line)
    return [
        (name, {verdict: fmean(line.counts[verdict] for line in group) for verdict in VERDICTS})
        for name, group in groups.items()
    ]


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
