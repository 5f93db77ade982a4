"""Accuracy and cost of every condition, as rows and as tables.

Everything below `read_graded` is pure over graded answers, so a store and an exported file give the same report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from statistics import fmean
from textwrap import fill
from typing import Any

from kard.answers.short import normalized
from kard.config import LEAST_SEEDS
from kard.evaluation.graded import (
    GradedAnswer,
    by_condition,
    kinds_of,
    right_by_question,
    rights_by_seed,
)
from kard.evaluation.over_seeds import share_over_seeds
from kard.methods import METHODS, RERANKED, Method
from kard.metrics.intervals import Bias, Share, Spread, bias_of, spread, wilson

BASELINES = ("chance", "majority")
WIDTH = 18  # characters of a kind's name in one line of a header
MOST_WITH_INTERVALS = 4  # kinds whose intervals fit beside each other into about 100 columns

COLUMN_NOTES = {
    "F1": "over the words of a short answer, whose accuracy is exact match",
    "bias": "the commonest answer and its share",
    "forced": "texts that named no answer; of options the likeliest was taken",
    "unread": "answers that could not be read, which are wrong",
}

TableCells = tuple[list[str], list[list[object]]]  # header, rows
Columns = dict[str, Callable[["ReportRow"], object]]  # by header: the cell of a row


@dataclass(frozen=True, slots=True)
class Cost:
    """Mean cost of a question under a condition, over all samples of its vote. None is unknown."""

    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    milliseconds: float | None = None
    flops: float | None = None


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A row of the report: a condition with all its seeds, or a baseline."""

    size: str
    method: str
    retriever: str
    shares: Mapping[str, Share]  # by kind of question; 'all' over every kind
    f1: float | None = None  # of short answers, whose accuracy is exact match; None for questions with options
    unread: int = 0  # answers that no text gives, forced or not
    forced: float | None = None  # share of the texts that named no option, so that one was chosen for them
    variant: str = ""  # the condition's label
    seeds: Spread | None = None  # accuracy over all questions, one number per seed; None for what has no seed
    bias: Bias | None = None  # None where letters do not mean the same for all questions, and for a baseline
    over_seeds: bool = False  # the intervals resample seeds too
    cost: Cost = field(default_factory=Cost)

    @property
    def cells(self) -> list[str]:
        """Return the cells that name the row."""
        return [self.size, self.method, f"{self.retriever} {self.variant}".rstrip()]

    @property
    def baseline(self) -> bool:
        """Whether the row is a baseline. A baseline is no sample of answers, so it has no interval."""
        return self.method in BASELINES

    @property
    def has_intervals(self) -> bool:
        """Whether its shares have intervals: no baseline has, and over seeds only a row of enough seeds."""
        return not self.baseline and (
            not self.over_seeds or (self.seeds is not None and self.seeds.of >= LEAST_SEEDS)
        )


def report_rows(graded: Sequence[GradedAnswer], *, over_seeds: bool = False, seed: int = 0) -> list[ReportRow]:
    """Return the rows of chance and majority, then one row per condition with the mean over its seeds.

    Intervals are of questions, with the trainings as they are. With `over_seeds` they are of seeds and questions,
    resampled with `seed`, for conditions of `LEAST_SEEDS` or more.
    """
    if not graded:
        return []
    kinds = kinds_of(graded)
    report = baselines(graded, kinds)
    for (size, method, retriever, variant), group in by_condition(graded).items():
        by_kind = {kind: _of_kind(group, kind) for kind in kinds}
        shares = {kind: _share(of_kind) for kind, of_kind in by_kind.items()}
        if over_seeds:
            shares = {kind: share_over_seeds(shares[kind], rights_by_seed(by_kind[kind]), seed) for kind in kinds}
        unread = sum(answer.answer is None for answer in group)
        seeds, cost = _over_seeds(method, group), _mean_cost(group)
        # A letter means the same only among questions with equally many options.
        options = {answer.options for answer in group}
        bias = bias_of(answer.answer for answer in group) if len(options) == 1 and 0 not in options else None
        report.append(
            ReportRow(
                size,
                method,
                retriever,
                shares,
                _mean(group, "f1"),
                unread,
                _mean(group, "forced"),
                variant,
                seeds,
                bias,
                over_seeds,
                cost,
            )
        )
    return report


def baselines(graded: Sequence[GradedAnswer], kinds: Sequence[str]) -> list[ReportRow]:
    """Return what guessing evenly is expected to get, and what the split's commonest answer gets.

    The majority is taken separately for each number of options, since a letter means something only among questions
    with equally many. Chance is an expectation, not a whole number of questions.
    """
    questions = list({answer.key: answer for answer in graded}.values())
    chance: dict[str, Share] = {}
    majority: dict[str, Share] = {}
    for kind in kinds:
        group = _of_kind(questions, kind)
        chance[kind] = wilson(sum(1 / question.options for question in group if question.options), len(group))
        right = 0
        for options in {question.options for question in group}:
            golds = Counter(normalized(question.gold) for question in group if question.options == options)
            right += golds.most_common(1)[0][1]
        majority[kind] = wilson(right, len(group))
    return [ReportRow("-", "chance", "-", chance), ReportRow("-", "majority", "-", majority)]


def _of_kind(graded: Iterable[GradedAnswer], kind: str) -> list[GradedAnswer]:
    return [answer for answer in graded if kind in ("all", answer.kind)]


def _share(group: Sequence[GradedAnswer]) -> Share:
    rights = right_by_question(group)
    if all(len(of_seeds) == 1 for of_seeds in rights.values()):
        return wilson(sum(answer.correct for answer in group), len(group))
    return wilson(min(sum(fmean(of_seeds) for of_seeds in rights.values()), len(rights)), len(rights))


def _over_seeds(method: str, group: Sequence[GradedAnswer]) -> Spread | None:
    """Return the spread over seeds; None for one answer a question of what has no seed."""
    seeds = rights_by_seed(group)
    if len(seeds) == 1 and method in METHODS and not METHODS[method].seeded:
        return None
    return spread([fmean(of_seed.values()) for of_seed in seeds.values()])


def _mean_cost(group: Sequence[GradedAnswer]) -> Cost:
    return Cost(*(_mean(group, f.name) for f in fields(Cost)))


def _mean(group: Sequence[GradedAnswer], name: str) -> float | None:
    values = [value for answer in group if (value := getattr(answer, name)) is not None]
    return fmean(values) if values else None


@dataclass(frozen=True, slots=True)
class TeacherCosts:
    """What a task's teachers were paid, in US dollars, and for how many rationales."""

    training: float = 0.0  # for the training questions
    evaluated: float = 0.0  # for the evaluated questions, which only the upper bound reads
    rationales: int = 0  # of the training questions
    shots: int = 0  # rationales in the prompt of a few-shot method

    @classmethod
    def of(cls, paid: Sequence[Mapping[str, Any]], split: str, shots: int = 0) -> TeacherCosts:
        """Return the costs of the rows of the query `teacher_costs`."""

        def total(column: str, of_split: str) -> float:
            return sum(float(row[column]) for row in paid if row["split"] == of_split)

        return cls(total("cost", "train"), total("cost", split), int(total("rationales", "train")), shots)

    def price(self, row: ReportRow) -> float | None:
        """Return what the condition's rationales cost: the student's, the reranker's, the upper bound's.

        None for a baseline. Rationales are paid for once, whatever learns from them, and rejected ones are paid
        too.
        """
        if row.baseline or row.method not in METHODS:
            return None
        method: Method = METHODS[row.method]
        price = 0.0
        if row.retriever in (*RERANKED, "shuffled") or (method.trained and (method.reads or method.reasons)):
            price = self.training
        elif method.shots and (method.reasons or row.retriever != "none"):
            price = self.training / max(self.rationales, 1) * self.shots
        return price + (self.evaluated if row.retriever == "silver" else 0.0)


def accuracy_table(report: Sequence[ReportRow]) -> TableCells:
    """Return accuracy with its 95% interval for all questions and for each kind.

    A cell over fewer questions than its header says how many: the run may not have finished.
    """
    if not report:
        return ["size", "method", "retriever"], []
    most = _most_questions(report, list(report[0].shares))

    def cell(row: ReportRow, kind: str) -> str:
        of = row.shares[kind].of
        return _accuracy(row, kind, 3) + ("" if of in (0, most[kind]) else f" (n={of})")

    header = ["size", "method", "retriever", *(f"{kind} (n={of})" for kind, of in most.items())]
    more = answer_columns(report)
    rows = [[*row.cells, *(cell(row, kind) for kind in most), *(c(row) for c in more.values())] for row in report]
    return [*header, *more], rows


def summary_table(report: Sequence[ReportRow], costs: TeacherCosts) -> TableCells:
    """Return accuracy over all questions with its interval, beside the cost of an answer and of its rationales."""
    if not report:
        return _table({}, ())
    same = len({row.shares["all"].of for row in report}) == 1
    name = f"accuracy (n={report[0].shares['all'].of})" if same else "accuracy"
    columns: Columns = {name: lambda row: _accuracy(row, "all", 3)}
    if not same:
        columns["n"] = lambda row: row.shares["all"].of
    if any(row.seeds and row.seeds.of > 1 for row in report):
        columns["over seeds"] = lambda row: "" if row.seeds is None else f"{row.seeds} ({row.seeds.of})"
    columns |= answer_columns(report)
    return _table({**columns, **_cost_columns(costs)}, report)


def cost_table(report: Sequence[ReportRow], costs: TeacherCosts) -> TableCells:
    """Return the cost of an answer and of its rationales under each condition."""
    return _table(_cost_columns(costs), [row for row in report if not row.baseline])


def kind_table(report: Sequence[ReportRow]) -> TableCells | None:
    """Return accuracy by kind of question; None if there is one kind. Many kinds have no room for intervals."""
    kinds = [kind for kind in report[0].shares if kind != "all"] if report else []
    if not kinds:
        return None
    places = 2 if len(kinds) <= MOST_WITH_INTERVALS else 0
    most = _most_questions(report, kinds)

    def cell(row: ReportRow, kind: str) -> str:
        of = row.shares[kind].of
        return _accuracy(row, kind, places) + ("" if of in (0, most[kind]) else f" n={of}")

    header = ["size", "method", "retriever", *(f"{fill(kind, WIDTH)}\nn={of}" for kind, of in most.items())]
    return header, [[*row.cells, *(cell(row, kind) for kind in kinds)] for row in report]


def report_records(report: Sequence[ReportRow], costs: TeacherCosts) -> list[dict[str, object]]:
    """Return the rows as JSON holds them: numbers under names."""
    return [
        {
            "size": row.size,
            "method": row.method,
            "retriever": row.retriever,
            "variant": row.variant,
            **_numbers(row, "all"),
            "seeds": row.seeds.of if row.seeds else None,
            "deviation_over_seeds": row.seeds.deviation if row.seeds else None,
            "commonest_answer": row.bias.answer if row.bias else None,
            "commonest_share": row.bias.share if row.bias else None,
            "f1": row.f1,
            "unread": None if row.baseline else row.unread,
            "forced": row.forced,
            "prompt_tokens": row.cost.prompt_tokens,
            "completion_tokens": row.cost.completion_tokens,
            "milliseconds": row.cost.milliseconds,
            "flops": row.cost.flops,
            "teacher_dollars": costs.price(row),
            "kinds": {kind: _numbers(row, kind) for kind in row.shares if kind != "all"},
        }
        for row in report
    ]


def text_notes(texts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what rows of the query `texts` say of forced answers, empty rationales and cut prompts."""
    names = ("texts", "forced_at_budget", "forced_unread", "cut_prompts")
    total, budget, unread, cut = (sum(row[name] for row in texts) for name in names)
    notes: list[str] = []
    if budget or unread:
        notes.append(
            f"{budget + unread:,} of {total:,} answers were forced: {budget:,} at the token budget, {unread:,} "
            "because the text named no option; by condition: kard query texts"
        )
    reasoning = [row for row in texts if METHODS[row["method"]].reasons]
    if empty := sum(row["without_reason"] for row in reasoning):
        rationales = sum(row["texts"] for row in reasoning)
        notes.append(f"{empty:,} of {rationales:,} rationales are empty; by condition: kard query texts")
    if cut:
        lost = f"{cut:,} of {total:,} prompts lost passage text"
        notes.append(f"{lost}; raise student.max_length, or lower retrieval.k")
    return notes


def as_markdown(header: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join('' if cell is None else str(cell) for cell in row)} |" for row in body]
    return "\n".join(lines)


def answer_columns(report: Sequence[ReportRow]) -> Columns:
    """Return the columns of F1, the commonest answer and answers without a text, each where a row has one."""
    columns: Columns = {}
    if any(row.f1 is not None for row in report):
        columns["F1"] = lambda row: "" if row.f1 is None else f"{row.f1:.3f}"
    if any(row.bias for row in report):
        columns["bias"] = lambda row: row.bias and str(row.bias)
    forced = any(row.forced is not None for row in report)
    if forced:
        columns["forced"] = lambda row: "" if row.forced is None else f"{row.forced:.0%}"
    if not forced or any(row.unread for row in report):
        columns["unread"] = lambda row: row.unread
    return columns


def column_notes(report: Sequence[ReportRow]) -> list[str]:
    """Return what each of the `answer_columns` shows."""
    return [f"{name}: {COLUMN_NOTES[name]}" for name in answer_columns(report)]


def _table(columns: Columns, report: Sequence[ReportRow]) -> TableCells:
    """Return a table of these columns after those that name a row."""
    header = ["size", "method", "retriever", *columns]
    return header, [[*row.cells, *(cell(row) for cell in columns.values())] for row in report]


def _most_questions(report: Sequence[ReportRow], kinds: Sequence[str]) -> dict[str, int]:
    """Return the largest number of questions that any row has of each kind."""
    return {kind: max(row.shares[kind].of for row in report) for kind in kinds}


def _accuracy(row: ReportRow, kind: str, places: int) -> str:
    """Return an accuracy with its interval, '' without questions. With 0 places: two decimals and no interval."""
    share = row.shares[kind]
    if not share.of:
        return ""
    return f"{share.value:.{places or 2}f}" if not row.has_intervals or not places else share.shown(places)


def _cost_columns(costs: TeacherCosts) -> Columns:
    def tokens(row: ReportRow) -> str:
        prompt, completion = row.cost.prompt_tokens, row.cost.completion_tokens
        return "" if prompt is None or completion is None else f"{prompt:.0f} + {completion:.0f}"

    def dollars(row: ReportRow) -> str:
        price = costs.price(row)
        return "" if price is None else f"${price:,.2f}"

    return {
        "tokens": tokens,
        "ms": lambda row: _rounded(row.cost.milliseconds),
        "GFLOPs": lambda row: _rounded(None if row.cost.flops is None else row.cost.flops / 1e9),
        "teacher": dollars,
    }


def _rounded(value: float | None) -> float | int | None:
    """Return three figures of a small number, all whole figures of a large one."""
    if value is None:
        return None
    return round(value) if value >= 100 else float(f"{value:.3g}")


def _numbers(row: ReportRow, kind: str) -> dict[str, object]:
    share = row.shares[kind]
    return {
        "accuracy": share.value,
        "low": share.low if row.has_intervals else None,
        "high": share.high if row.has_intervals else None,
        "right": share.right,
        "questions": share.of,
    }
