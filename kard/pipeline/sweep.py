"""Vary settings over a grid. Every cell is a run like any other, so equal work is made once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from statistics import fmean
from typing import TYPE_CHECKING

from kard.config import require
from kard.db import rows
from kard.evaluation.compare import Comparison, compare
from kard.evaluation.graded import ConditionKey, GradedAnswer, graded_rows
from kard.evaluation.report import ReportRow, TableCells, report_rows
from kard.methods import METHODS
from kard.metrics.significance import p_text
from kard.pipeline.run import Run
from kard.pipeline.steps import run_step, run_steps, states
from kard.pipeline.students import STUDENT
from kard.records import canonical

if TYPE_CHECKING:
    from kard.evaluation.page.figures import Point

Values = Mapping[str, str]
"""By factor: the value that a cell has, as it was written."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One choice of values, with a run for each seed. `shown` are the values that its name has."""

    values: Values
    runs: Sequence[Run]
    shown: Values

    @property
    def name(self) -> str:
        """Name the cell by its values, like `k=1 student.epochs=3`."""
        return label(self.shown)


def label(values: Values) -> str:
    """Return values as they were written on the command line; the value of the factor '' is a name."""
    return " ".join(f"{factor}={chosen}" if factor else chosen for factor, chosen in values.items())


def grid(factors: Mapping[str, Sequence[str]], *, one_at_a_time: bool = False) -> list[Values]:
    """Return the cells of a grid; with `one_at_a_time` every first value, then each factor's others alone.

    Raises BadConfig for a factor with fewer than two values, or with one twice.
    """
    for factor, values in factors.items():
        require(len(values) > 1, f"{factor} needs two values or more to vary, like --over {factor}=1,3")
        twice = [chosen for chosen, count in Counter(values).items() if count > 1]
        require(not twice, f"{factor} has {', '.join(twice)} twice")
    if not one_at_a_time:
        return [dict(zip(factors, chosen, strict=True)) for chosen in product(*factors.values())]
    first = {factor: values[0] for factor, values in factors.items()}
    return [first, *({**first, factor: chosen} for factor, values in factors.items() for chosen in values[1:])]


def cells_of(grid: Sequence[Values], runs: Callable[[Values], Sequence[Run]], *, one_at_a_time: bool) -> list[Cell]:
    """Return the cells with their runs. One at a time, all but the first are named by what is changed alone."""
    first = grid[0]
    return [
        Cell(
            values,
            runs(values),
            {f: v for f, v in values.items() if values is first or not one_at_a_time or v != first[f]},
        )
        for values in grid
    ]


def sweep(cells: Sequence[Cell]) -> list[GradedAnswer]:
    """Do what the runs of all cells lack, and return their answers; `variant` names the cells of a condition."""
    runs = [(cell, run) for cell in cells for run in cell.runs]
    # The store holds one search of a question: runs that search alike follow each other.
    searches = list(dict.fromkeys(canonical(run.options.settings.retrieval.forms) for _, run in runs))
    runs.sort(key=lambda pair: searches.index(canonical(pair[1].options.settings.retrieval.forms)))
    numbered = enumerate(runs, 1)
    for _, alike in groupby(numbered, key=lambda item: item[1][1].options.settings.retrieval.forms):
        group = list(alike)
        train_beside([run for _, (_, run) in group])
        for number, (cell, run) in group:
            seed = run.options.settings.student_training.seed
            run.progress.note(f"run {number} of {len(runs)}: {cell.name} seed={seed}")
            if _lacks_answers(run):
                run_steps(run)
    return answers_of(cells)


def train_beside(runs: Sequence[Run]) -> None:
    """Let workers, where there are any, train the students of several runs that search alike beside each other."""
    lacking = [run for run in runs if run.workers and _lacks_answers(run)]
    seen: set[tuple[object, ...]] = set()
    alone: list[Run] = []  # each with one student
    for run in lacking:
        run_steps(run, before=STUDENT.name)
        run.refresh()  # another run may have found what this one's data are
        missing = _missing_students(run) - seen
        seen |= missing
        pairs = sorted((str(size), str(method)) for size, _, method, *_ in missing)
        alone += [replace(run, options=replace(run.options, sizes=(s,), methods=(m,))) for s, m in pairs]
    if alone:
        run_step(alone[0], STUDENT, *alone[1:])
    for run in lacking:
        run.refresh()


def _lacks_answers(run: Run) -> bool:
    """Whether the run has anything to answer; what it would search, rank and train else is for nothing."""
    return not all(state and not state.missing for _, state, _ in states(run, "answer"))


def answers_of(cells: Sequence[Cell]) -> list[GradedAnswer]:
    """Return the stored answers of the cells' conditions, in the order of the cells, which `variant` names."""
    first = cells[0].runs[0]
    ids = dict(first.db.execute("select hash, id from evaluations where task = ?", [first.name]).fetchall())
    shown: dict[int, list[Values]] = {}
    for cell in cells:
        hashes = {c.row(run.name)["hash"] for run in cell.runs for c in run.conditions()}
        for evaluation in (ids[hash] for hash in hashes if hash in ids):
            shown.setdefault(evaluation, []).append(cell.shown)
    factors = {factor: {cell.values[factor] for cell in cells} for factor in cells[0].values}
    variants = {evaluation: label(_common(values, factors)) for evaluation, values in shown.items()}
    asked = {question.key for question in first.evaluated.read(first.db).values()}
    places = {variant: place for place, variant in enumerate(dict.fromkeys(variants.values()))}
    answers = [
        replace(GradedAnswer.of(row), variant=variants[row["evaluation_id"]])
        for row in graded_rows(first.db, first.name, first.split)
        if row["evaluation_id"] in variants and row["key"] in asked
    ]
    return sorted(answers, key=lambda answer: places[answer.variant])


def _common(cells: Sequence[Values], factors: Mapping[str, set[str]]) -> Values:
    """Return what tells cells that share a condition from others: no factor of which they have all values."""
    values = {factor: dict.fromkeys(cell[factor] for cell in cells if factor in cell) for factor in factors}
    return {f: "|".join(v) for f, v in values.items() if v and (len(cells) == 1 or v.keys() != factors[f])}


def sweep_rows(graded: Sequence[GradedAnswer], *, alike: int = 3) -> list[ReportRow]:
    """Return the baselines, then the conditions in groups of those alike, each in the order of its cells.

    `alike` is how many of size, method and retriever a group has in common.
    """
    found = report_rows(graded)
    kinds = list(dict.fromkeys(_key(row)[:alike] for row in found))
    variants = list(dict.fromkeys(["", *(answer.variant for answer in graded)]))
    return sorted(found, key=lambda row: (kinds.index(_key(row)[:alike]), variants.index(row.variant)))


def compared(
    graded: Sequence[GradedAnswer], found: Sequence[ReportRow], *, alike: int = 3
) -> dict[ConditionKey, Comparison]:
    """Compare every condition with the first row of its group (`sweep_rows`); p by Holm over all."""
    firsts: dict[tuple[str, ...], ConditionKey] = {}
    keys = [_key(row) for row in found if not row.baseline]
    for key in keys:
        firsts.setdefault(key[:alike], key)
    pairs = [(key, firsts[key[:alike]]) for key in keys if key != firsts[key[:alike]]]
    return dict(zip((key for key, _ in pairs), compare(graded, pairs), strict=True))


def _key(row: ReportRow) -> ConditionKey:
    return row.size, row.method, row.retriever, row.variant


def sweep_table(
    rows: Sequence[ReportRow],
    comparisons: Mapping[ConditionKey, Comparison],
    *,
    cell: str,
    first: str,
    seeds: bool,
) -> TableCells:
    """Return header and cells: accuracy with its interval, and the difference to the first cell with its p.

    With `seeds` there is a column for the mean over them.
    """
    header = ["size", "method", "retriever", cell, "accuracy", "n", f"minus the {first}", "won-lost", "p (Holm)"]
    if seeds:
        header.insert(6, "over seeds")
    cells: list[list[object]] = []
    for row in rows:
        share = row.shares["all"]
        line: list[object] = [row.size, row.method, row.retriever, row.variant]
        line += [f"{share.value:.3f}" if row.baseline else str(share), share.of]
        if seeds:
            line.append("" if row.seeds is None else f"{row.seeds} ({row.seeds.of})")
        c = comparisons.get(_key(row))
        line += ["", "", ""] if c is None else [str(c.difference), f"{c.wins}-{c.losses}", p_text(c.adjusted)]
        cells.append(line)
    return header, cells


def points_over(factor: str, cells: Sequence[Cell], found: Sequence[ReportRow]) -> list[tuple[str, Point]]:
    """Return each condition's accuracy with the factor's value, in the order of the cells; its series is the rest.

    A condition that the factor does not touch stands over every value. One at a time, others have first values.
    """
    from kard.evaluation.page.figures import Point

    order = list(dict.fromkeys(cell.values[factor] for cell in cells))
    points: list[tuple[str, Point]] = []
    for row in found:
        parts = [part for part in row.variant.split() if not part.startswith(f"{factor}=")]
        if len(cells[-1].shown) < len(cells[0].shown):
            if not set(parts) <= set(cells[0].name.split()):
                continue
            parts = []
        mine = next((part for part in row.variant.split() if part.startswith(f"{factor}=")), "")
        for at in mine.removeprefix(f"{factor}=").split("|") if mine else order:
            points.append((at, Point(row.size, row.method, row.retriever, " ".join(parts), row.shares["all"])))
    return sorted(points, key=lambda placed: order.index(placed[0]))


def plan(cells: Sequence[Cell], *, cell: str = "cell") -> TableCells:
    """Return header and cells: what each run lacks by step, and the seconds of trainings and answers.

    Trainings and answers that two runs share count in the first. Seconds are at the rates of the store, '' without.
    """
    header = [cell, "seed", "trainings", "answers", "other steps", "seconds"]
    seen: set[tuple[object, ...]] = set()
    lines: list[list[object]] = []
    for varied in cells:
        for run in varied.runs:
            seed = run.options.settings.student_training.seed
            lacks = {step.name: state.missing if state else None for step, state, _ in states(run)}
            students = _missing_students(run) - seen
            seen |= students
            answers = lacks.pop("answer", 0)
            lacks.pop("student", 0)
            other = ", ".join(f"{name} {'?' if n is None else n}" for name, n in lacks.items() if n != 0)
            seconds = _seconds(run, [str(method) for _, _, method, *_ in students], answers or 0)
            lines.append([varied.name, seed, len(students), "?" if answers is None else answers, other, seconds])
    return header, lines


def _missing_students(run: Run) -> set[tuple[object, ...]]:
    data = {pair: found.sha256 for pair, found in run.resolved.student_data.items()}
    # Before rationales have passages, data that are not known yet are told by where they will come from.
    retrieval = run.options.settings.retrieval
    searched = retrieval.values() if run.ordering else retrieval.forms
    unknown = (run.rationale_source, run.knowledge, canonical(searched))
    earlier = _missing_students(run.explaining) if run.explaining else set[tuple[object, ...]]()
    return earlier | {
        (size, run.base_of(size), method, run.student_settings(method), data.get((size, method), unknown))
        for (size, method), student in run.resolved.students.items()
        if student is None and METHODS[method].trained
    }


def _seconds(run: Run, trained: Sequence[str], answers: int) -> str:
    """Return how long students of these methods train and answer, at the rates of the store; '' without a rate."""
    rates = {row["method"]: row for row in rows(run.db, "internal/rates", task=run.name)}
    answering = [row["answering"] for row in rates.values() if row["answering"]]
    if not rates.keys() >= set(trained) or (answers and not answering):
        return ""
    seen = run.options.settings.student_training.epochs * len(run.trained_on.read(run.db))
    training = sum(rates[method]["training"] * seen for method in trained)
    return f"{(training + answers * fmean(answering or [0])) / 1000:.0f}"
