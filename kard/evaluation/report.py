"""Tables over graded predictions: pure, so that a store and an exported file give the same report."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from statistics import fmean

from kard.metrics.intervals import Share, Spread, spread, wilson

# The order of the paper's table: by method, then by where the passages come from.
METHOD_ORDER = ("zero-shot", "few-shot", "few-shot-cot", "ft", "ka-ft", "rd", "kard")
BASELINES = ("chance", "majority")
RETRIEVER_ORDER = ("none", "shuffled", "bm25", "dense", "hybrid", "reranker", "fused", "silver")

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmbt])", re.I)
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


@dataclass(frozen=True, slots=True)
class Graded:
    """One prediction of one condition, graded: a row of the query `graded`, or of its export.

    `variant` tells apart conditions that size, method and retriever do not (`k=1`): see `kard.evaluation.labels`.
    Tokens are summed over the prediction's samples; they, milliseconds and FLOPs are None where a file has none.
    """

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
    variant: str = ""
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    milliseconds: float | None = None
    flops: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, object]) -> Graded:
        """From a row with at least the columns that have no default here."""
        names = [f.name for f in fields(cls) if f.default is MISSING or f.name in row]
        return cls(**{name: row[name] for name in names})  # type: ignore[arg-type]  # columns are typed


@dataclass(frozen=True, slots=True)
class Cost:
    """What a question takes under a condition, as means: all samples of its vote together. None is unknown."""

    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    milliseconds: float | None = None
    flops: float | None = None


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A line of the accuracy table: a condition, or a baseline that reads nothing and knows nothing."""

    size: str
    method: str
    retriever: str
    shares: Mapping[str, Share]  # by kind of question; 'all' over every kind
    unread: int = 0  # answers that could not be read from the student's text
    variant: str = ""  # what else tells it from another line
    seeds: Spread | None = None  # accuracy over all questions, one number a seed; None for a baseline
    cost: Cost = field(default_factory=Cost)

    @property
    def cells(self) -> list[str]:
        """The line's names."""
        return [self.size, self.method, f"{self.retriever} {self.variant}".rstrip()]


Key = tuple[str, str, str, str]  # size, method, retriever, variant


def kinds_of(graded: Sequence[Graded]) -> list[str]:
    """'all' and, where questions are of several kinds, each of them in alphabetical order."""
    kinds = sorted({g.kind for g in graded})
    return ["all", *kinds] if len(kinds) > 1 else ["all"]


def by_condition(graded: Iterable[Graded]) -> dict[Key, list[Graded]]:
    """The predictions of each condition, all its seeds together, in the order of the paper's table."""
    found: dict[Key, list[Graded]] = defaultdict(list)
    for g in graded:
        found[g.size, g.method, g.retriever, g.variant].append(g)
    return dict(sorted(found.items(), key=lambda item: (place(*item[0][:3]), item[0][3])))


def accuracy_lines(graded: Sequence[Graded]) -> list[ReportRow]:
    """Chance, majority, then every condition; several seeds of one condition are one line with their mean."""
    if not graded:
        return []
    kinds = kinds_of(graded)
    lines = baselines(graded, kinds)
    for (size, method, retriever, variant), group in by_condition(graded).items():
        shares = {kind: _share(_of_kind(group, kind)) for kind in kinds}
        unread = sum(g.answer is None for g in group)
        lines.append(
            ReportRow(size, method, retriever, shares, unread, variant, seeds=_over_seeds(group), cost=_cost(group))
        )
    return lines


def baselines(graded: Sequence[Graded], kinds: Sequence[str]) -> list[ReportRow]:
    """What guessing evenly is expected to get, and what always giving the split's commonest answer gets.

    Letters mean something only among questions with equally many options, so the majority is taken per
    number of options. Chance is an expectation, and no whole number of questions.
    """
    questions = list({g.key: g for g in graded}.values())
    chance: dict[str, Share] = {}
    majority: dict[str, Share] = {}
    for kind in kinds:
        group = _of_kind(questions, kind)
        chance[kind] = wilson(sum(1 / g.options for g in group), len(group))
        right = 0
        for options in {g.options for g in group}:
            right += Counter(g.gold for g in group if g.options == options).most_common(1)[0][1]
        majority[kind] = wilson(right, len(group))
    return [ReportRow("-", "chance", "-", chance), ReportRow("-", "majority", "-", majority)]


def _of_kind(graded: Iterable[Graded], kind: str) -> list[Graded]:
    return [g for g in graded if kind in ("all", g.kind)]


def right_by_question(group: Iterable[Graded]) -> dict[str, list[int]]:
    """1 or 0 for each answer to each question, by its key: one answer a seed."""
    found: dict[str, list[int]] = defaultdict(list)
    for g in group:
        found[g.key].append(g.correct)
    return dict(found)


def _share(group: Sequence[Graded]) -> Share:
    answers = right_by_question(group)
    if all(len(given) == 1 for given in answers.values()):
        return wilson(sum(g.correct for g in group), len(group))
    return wilson(min(sum(fmean(given) for given in answers.values()), len(answers)), len(answers))


def _over_seeds(group: Sequence[Graded]) -> Spread:
    runs: dict[int, list[int]] = defaultdict(list)
    for g in group:
        runs[g.seed].append(g.correct)
    return spread([fmean(run) for _, run in sorted(runs.items())])


def _cost(group: Sequence[Graded]) -> Cost:
    def mean(name: str) -> float | None:
        known = [value for g in group if (value := getattr(g, name)) is not None]
        return fmean(known) if known else None

    return Cost(*(mean(f.name) for f in fields(Cost)))


def place(size: str, method: str, retriever: str) -> tuple[object, ...]:
    """What conditions are sorted by wherever they are listed: size, then the paper's methods and retrievers."""
    return (size_place(size), _at(METHOD_ORDER, method), _at(RETRIEVER_ORDER, retriever))


def size_place(size: str) -> tuple[float, str]:
    """What sizes are sorted by: the number of parameters that the name holds, then the name; others come last."""
    match = _SIZE.search(size)
    return (float(match[1]) * _UNITS[match[2].lower()] if match else float("inf"), size)


def _at(order: Sequence[str], name: str) -> tuple[int, str]:
    """The name's place; names that are not in the order come last, in alphabetical order."""
    return (order.index(name) if name in order else len(order), name)


def as_table(lines: Sequence[ReportRow]) -> tuple[list[str], list[list[object]]]:
    """Header and cells: accuracy with its 95% interval for all questions and for each kind.

    A cell over fewer questions than the header names says how many, as those of a run that goes on.
    """
    if not lines:
        return ["size", "method", "retriever"], []
    kinds = list(lines[0].shares)
    header = ["size", "method", "retriever"]
    most = {kind: max(line.shares[kind].of for line in lines) for kind in kinds}
    header += [f"{kind} (n={most[kind]})" for kind in kinds] + ["unread"]
    body: list[list[object]] = [
        [*line.cells, *(_cell(line, kind, most[kind]) for kind in kinds), line.unread] for line in lines
    ]
    return header, body


def _cell(line: ReportRow, kind: str, most: int) -> str:
    """A baseline is no sample of answers, so it has no interval."""
    share = line.shares[kind]
    if not share.of:
        return ""
    shown = f"{share.value:.3f}" if line.method in BASELINES else str(share)
    return shown if share.of == most else f"{shown} (n={share.of})"


def as_markdown(header: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    """The same table in Markdown."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join('' if cell is None else str(cell) for cell in row)} |" for row in body]
    return "\n".join(lines)
