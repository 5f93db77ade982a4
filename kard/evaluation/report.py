"""Tables over graded predictions: pure, so that a store and an exported file give the same report."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kard.evaluation.intervals import Share, wilson

# The order of the paper's table: by method, then by where the passages come from.
METHOD_ORDER = ("ft", "ka-ft", "rd", "kard")
BASELINES = ("chance", "majority")
RETRIEVER_ORDER = ("none", "shuffled", "bm25", "reranker", "silver")


@dataclass(frozen=True, slots=True)
class Graded:
    """One prediction of one condition, graded: a row of the query `graded`, or of its export."""

    size: str
    method: str
    seed: int
    retriever: str
    k: int
    kind: str
    key: str
    options: int
    gold: str
    answer: str | None
    correct: int

    @classmethod
    def of(cls, row: Mapping[str, object]) -> Graded:
        """From a row with at least these columns."""
        return cls(**{name: row[name] for name in cls.__slots__})  # type: ignore[arg-type]  # columns are typed


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the accuracy table: a condition, or a baseline that reads nothing and knows nothing."""

    size: str
    method: str
    retriever: str
    shares: Mapping[str, Share]  # by kind of question; 'all' over every kind
    unread: int = 0  # answers that could not be read from the student's text

    @property
    def cells(self) -> list[str]:
        """The line's names."""
        return [self.size, self.method, self.retriever]


def kinds_of(graded: Sequence[Graded]) -> list[str]:
    """'all' and, where questions are of several kinds, each of them in alphabetical order."""
    kinds = sorted({g.kind for g in graded})
    return ["all", *kinds] if len(kinds) > 1 else ["all"]


def accuracy_lines(graded: Sequence[Graded]) -> list[Line]:
    """Chance, majority, then every condition; several seeds of one condition are pooled."""
    if not graded:
        return []
    kinds = kinds_of(graded)
    conditions: dict[tuple[str, str, str], list[Graded]] = defaultdict(list)
    for g in graded:
        conditions[g.size, g.method, g.retriever].append(g)
    lines = baselines(graded, kinds)
    for (size, method, retriever), group in sorted(conditions.items(), key=_position):
        shares = {kind: _share(_of_kind(group, kind)) for kind in kinds}
        lines.append(Line(size, method, retriever, shares, sum(g.answer is None for g in group)))
    return lines


def baselines(graded: Sequence[Graded], kinds: Sequence[str]) -> list[Line]:
    """What guessing evenly is expected to get, and what always giving the split's commonest answer gets.

    Letters mean something only among questions with equally many options, so the majority is taken per
    number of options. Chance is an expectation and stands as the nearest whole number of questions.
    """
    questions = list({g.key: g for g in graded}.values())
    chance: dict[str, Share] = {}
    majority: dict[str, Share] = {}
    for kind in kinds:
        group = _of_kind(questions, kind)
        chance[kind] = wilson(round(sum(1 / g.options for g in group)), len(group))
        right = 0
        for options in {g.options for g in group}:
            right += Counter(g.gold for g in group if g.options == options).most_common(1)[0][1]
        majority[kind] = wilson(right, len(group))
    return [Line("-", "chance", "-", chance), Line("-", "majority", "-", majority)]


def _of_kind(graded: Iterable[Graded], kind: str) -> list[Graded]:
    return [g for g in graded if kind in ("all", g.kind)]


def _share(group: Sequence[Graded]) -> Share:
    return wilson(sum(g.correct for g in group), len(group))


def _position(item: tuple[tuple[str, str, str], list[Graded]]) -> tuple[object, ...]:
    size, method, retriever = item[0]
    return (
        size,
        METHOD_ORDER.index(method) if method in METHOD_ORDER else len(METHOD_ORDER),
        RETRIEVER_ORDER.index(retriever) if retriever in RETRIEVER_ORDER else len(RETRIEVER_ORDER),
    )


def as_table(lines: Sequence[Line]) -> tuple[list[str], list[list[object]]]:
    """Header and cells: accuracy with its 95% interval for all questions and for each kind."""
    if not lines:
        return ["size", "method", "retriever"], []
    kinds = list(lines[0].shares)
    header = ["size", "method", "retriever"]
    header += [f"{kind} (n={lines[0].shares[kind].of})" for kind in kinds] + ["unread"]
    body: list[list[object]] = [
        [*line.cells, *(_cell(line, kind) for kind in kinds), line.unread] for line in lines
    ]
    return header, body


def _cell(line: Line, kind: str) -> str:
    """A baseline is no sample of answers, so it has no interval."""
    share = line.shares[kind]
    return f"{share.value:.3f}" if line.method in BASELINES else str(share)


def as_markdown(header: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    """The same table in Markdown."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join('' if cell is None else str(cell) for cell in row)} |" for row in body]
    return "\n".join(lines)
