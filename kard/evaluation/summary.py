"""The report as a terminal shows it and as JSON holds it: accuracy beside its price, kinds of question beside each
other. Pure over the lines of `kard.evaluation.report`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill

from kard.config import METHODS, RERANKED, Method
from kard.evaluation.report import BASELINES, ReportRow

Table = tuple[list[str], list[list[object]]]  # header, rows
Columns = dict[str, Callable[[ReportRow], object]]
WIDTH = 18  # characters of a kind's name in one line of a header
MOST_WITH_INTERVALS = 4  # kinds that have their intervals beside each other within about 100 columns


@dataclass(frozen=True, slots=True)
class TeacherCosts:
    """What a task's teachers were paid, in US dollars, and for how many rationales."""

    training: float = 0.0  # for the training questions
    evaluated: float = 0.0  # for the evaluated ones, which only the upper bound reads
    rationales: int = 0  # of the training questions
    shots: int = 0  # of them that a prompt shows

    @classmethod
    def of(cls, paid: Sequence[Mapping[str, object]], split: str, shots: int = 0) -> TeacherCosts:
        """From the rows of the query `internal/teacher_costs`."""

        def total(name: str, wanted: str) -> float:
            return sum(float(str(row[name])) for row in paid if row["split"] == wanted)

        return cls(total("cost", "train"), total("cost", split), int(total("rationales", "train")), shots)

    def price(self, line: ReportRow) -> float | None:
        """What the condition's lessons cost: the student's, the reranker's, the upper bound's. None for a baseline.

        Rationales are paid for once, whatever learns from them, and rejected ones were paid for too.
        """
        if line.method in BASELINES or line.method not in METHODS:
            return None
        method: Method = METHODS[line.method]
        price = 0.0
        if line.retriever in RERANKED or (method.trained and (method.reads or method.reasons)):
            price = self.training
        elif method.shots and (method.reasons or line.retriever != "none"):
            price = self.training / max(self.rationales, 1) * self.shots
        return price + (self.evaluated if line.retriever == "silver" else 0.0)


def summary(lines: Sequence[ReportRow], lessons: TeacherCosts) -> Table:
    """A line a condition: accuracy over all questions with its interval, what an answer and its lessons cost."""
    if not lines:
        return _named({}, ())
    same = len({line.shares["all"].of for line in lines}) == 1
    name = f"accuracy (n={lines[0].shares['all'].of})" if same else "accuracy"
    accuracy: Columns = {name: lambda line: _share(line, "all", 3)}
    if not same:
        accuracy["n"] = lambda line: line.shares["all"].of
    if any(line.seeds and line.seeds.of > 1 for line in lines):
        accuracy["over seeds"] = _seeds
    accuracy["unread"] = lambda line: None if line.method in BASELINES else line.unread
    return _named({**accuracy, **_prices(lessons)}, lines)


def costs(lines: Sequence[ReportRow], lessons: TeacherCosts) -> Table:
    """What an answer and its lessons cost, a line a condition."""
    return _named(_prices(lessons), [line for line in lines if line.method not in BASELINES])


def _prices(lessons: TeacherCosts) -> Columns:
    return {
        "tokens": _tokens,
        "ms": lambda line: _rounded(line.cost.milliseconds),
        "GFLOPs": lambda line: _rounded(None if line.cost.flops is None else line.cost.flops / 1e9),
        "teacher": lambda line: _dollars(lessons.price(line)),
    }


def _named(columns: Columns, lines: Sequence[ReportRow]) -> Table:
    """The columns after those that name a line."""
    header = ["size", "method", "retriever", *columns]
    return header, [[*line.cells, *(cell(line) for cell in columns.values())] for line in lines]


def by_kind(lines: Sequence[ReportRow]) -> Table | None:
    """A line a condition, a column a kind of question; None where there is one kind. Many kinds stand bare."""
    kinds = [kind for kind in lines[0].shares if kind != "all"] if lines else []
    if not kinds:
        return None
    places = 2 if len(kinds) <= MOST_WITH_INTERVALS else 0
    most = {kind: max(line.shares[kind].of for line in lines) for kind in kinds}
    header = [f"{fill(kind, WIDTH)}\nn={most[kind]}" for kind in kinds]

    def cell(line: ReportRow, kind: str) -> str:
        of = line.shares[kind].of
        return _share(line, kind, places) + ("" if of in (0, most[kind]) else f" n={of}")

    rows: list[list[object]] = [[*line.cells, *(cell(line, kind) for kind in kinds)] for line in lines]
    return ["size", "method", "retriever", *header], rows


def as_records(lines: Sequence[ReportRow], lessons: TeacherCosts) -> list[dict[str, object]]:
    """The lines as JSON holds them: numbers under names."""
    return [
        {
            "size": line.size,
            "method": line.method,
            "retriever": line.retriever,
            "variant": line.variant,
            **_numbers(line, "all"),
            "seeds": line.seeds.of if line.seeds else None,
            "deviation_over_seeds": line.seeds.deviation if line.seeds else None,
            "unread": None if line.method in BASELINES else line.unread,
            "prompt_tokens": line.cost.prompt_tokens,
            "completion_tokens": line.cost.completion_tokens,
            "milliseconds": line.cost.milliseconds,
            "flops": line.cost.flops,
            "teacher_dollars": lessons.price(line),
            "kinds": {kind: _numbers(line, kind) for kind in line.shares if kind != "all"},
        }
        for line in lines
    ]


def _numbers(line: ReportRow, kind: str) -> dict[str, object]:
    share = line.shares[kind]
    bare = line.method in BASELINES
    return {
        "accuracy": share.value,
        "low": None if bare else share.low,
        "high": None if bare else share.high,
        "right": share.right,
        "questions": share.of,
    }


def _share(line: ReportRow, kind: str, places: int) -> str:
    """A baseline is no sample of answers, so it has no interval. 0 places: two of the share, and no interval."""
    share = line.shares[kind]
    if not share.of:
        return ""
    bare = line.method in BASELINES or not places
    return f"{share.value:.{places or 2}f}" if bare else share.shown(places)


def _seeds(line: ReportRow) -> str:
    return "" if line.seeds is None else f"{line.seeds} ({line.seeds.of})"


def _tokens(line: ReportRow) -> str:
    prompt, completion = line.cost.prompt_tokens, line.cost.completion_tokens
    return "" if prompt is None or completion is None else f"{prompt:.0f} + {completion:.0f}"


def _rounded(value: float | None) -> float | int | None:
    """Three figures of a small number, whole ones of a large one."""
    if value is None:
        return None
    return round(value) if value >= 100 else float(f"{value:.3g}")


def _dollars(value: float | None) -> str:
    return "" if value is None else f"${value:,.2f}"
