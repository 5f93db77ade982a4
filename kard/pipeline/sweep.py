"""Vary settings over a grid. Every cell is a run like any other, so equal work is made once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from statistics import fmean
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True, slots=True)
class Swept:
    """The answers of a sweep, whose `variant` names the cells that share their condition, and these cells.

    `equal` are notes on students that differ in settings but not in weights.
    """

    cells: Sequence[Cell]
    graded: Sequence[GradedAnswer]
    alike: Mapping[ConditionKey, Sequence[Cell]]
    equal: Sequence[str]

    @property
    def touched(self) -> set[str]:
        """Return the factors by which any condition differs from another."""
        return {factor for alike in self.alike.values() for factor in common(alike, self.cells)}


def sweep(cells: Sequence[Cell]) -> Swept:
    """Do what the runs of all cells lack, and return their answers.

    The store holds one search of a question or rationale in a knowledge base. Where cells search differently, a
    second sweep searches and ranks anew, to find which students are whose; it trains and answers nothing twice.
    """
    runs = [(cell, run) for cell in cells for run in cell.runs]
    # Runs that search alike follow each other.
    searches = list(dict.fromkeys(canonical(run.options.settings.retrieval.forms) for _, run in runs))
    runs.sort(key=lambda pair: searches.index(canonical(pair[1].options.settings.retrieval.forms)))
    numbered = enumerate(runs, 1)
    hashes: dict[int, list[str]] = {}
    for _, alike in groupby(numbered, key=lambda item: item[1][1].options.settings.retrieval.forms):
        group = list(alike)
        train_beside([run for _, (_, run) in group])
        for number, (cell, run) in group:
            seed = run.options.settings.student_training.seed
            run.progress.note(f"run {number} of {len(runs)}: {cell.name} seed={seed}")
            if _lacks_answers(run):
                run_steps(run)
            # Told now: the next group's searches take the place of those that say which students are this run's.
            hashes[id(run)] = [str(condition.row(run.name)["hash"]) for condition in run.conditions()]
    return answers_of(cells, hashes)


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


def answers_of(cells: Sequence[Cell], hashes: Mapping[int, Sequence[str]]) -> Swept:
    """Return the stored answers of the cells' conditions, in the order of the cells.

    `hashes` are those of each run's conditions, by the `id` of the run. Cells share a condition if they do in every
    seed: else their rows would stand for different seeds.
    """
    first = cells[0].runs[0]
    sharing: dict[tuple[str, ...], list[Cell]] = {}  # by the hashes over the seeds
    for cell in cells:
        for over_seeds in zip(*(hashes[id(run)] for run in cell.runs), strict=True):
            sharing.setdefault(over_seeds, []).append(cell)
    evaluations = {row["hash"]: row for row in rows(first.db, "internal/trained_weights", task=first.name)}
    places: dict[str, int] = {}  # of the names of the cells
    named: dict[str, dict[str, list[Cell]]] = {}  # by hash, then by name
    for over_seeds, alike in sharing.items():
        name = name_of(alike, cells)
        places.setdefault(name, len(places))
        for hash in over_seeds:
            named.setdefault(hash, {})[name] = alike
    hashes_by_id = {row["evaluation_id"]: hash for hash, row in evaluations.items()}
    asked = {question.key for question in first.evaluated.read(first.db).values()}
    answers = [
        (replace(GradedAnswer.of(row), variant=variant), alike)
        for row in graded_rows(first.db, first.name, first.split)
        if row["key"] in asked
        for variant, alike in named.get(hashes_by_id[row["evaluation_id"]], {}).items()
    ]
    answers.sort(key=lambda pair: places[pair[0].variant])
    by_condition = {(a.size, a.method, a.retriever, a.variant): of for a, of in answers}
    return Swept(cells, [a for a, _ in answers], by_condition, _equal_weights(cells, sharing, evaluations))


def _equal_weights(
    cells: Sequence[Cell],
    sharing: Mapping[tuple[str, ...], Sequence[Cell]],
    evaluations: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Return a note for each size and method of which cells trained different students with equal weights.

    `sharing` are the cells by the hashes of a condition over the seeds, `evaluations` its rows by hash.
    """
    students: dict[tuple[object, ...], dict[tuple[object, ...], dict[int, Cell]]] = {}  # by weights, then by ids
    for over_seeds, alike in sharing.items():
        trained = [evaluations[hash] for hash in over_seeds if hash in evaluations]
        if trained and all(row["sha256"] for row in trained):
            weights = trained[0]["size"], trained[0]["method"], *(row["sha256"] for row in trained)
            of_weights = students.setdefault(weights, {})
            of_weights.setdefault(tuple(row["student_id"] for row in trained), {}).update({id(c): c for c in alike})
    notes: list[str] = []
    for (size, method, *_), by_ids in students.items():
        if len(by_ids) > 1:
            names = "; ".join(name_of([*of.values()], cells) for of in by_ids.values())
            notes.append(f"{size}/{method}: trained apart, but of equal weights: {names}")
    return notes


def name_of(alike: Sequence[Cell], cells: Sequence[Cell]) -> str:
    """Return the name of cells that share a condition; no others have it."""
    told = common(alike, cells)
    meant = [cell for cell in cells if all(cell.values[f] in values.split("|") for f, values in told.items())]
    return label(told) if [*map(id, meant)] == [*map(id, alike)] else " or ".join(cell.name for cell in alike)


def common(alike: Sequence[Cell], cells: Sequence[Cell]) -> Values:
    """Return what tells cells that share a condition from others: no factor of which they have all values."""
    if len(alike) == 1:
        return alike[0].shown
    factors = {factor: {cell.values[factor] for cell in cells} for factor in cells[0].values}
    values = {f: dict.fromkeys(cell.shown[f] for cell in alike if f in cell.shown) for f in factors}
    return {f: "|".join(v) for f, v in values.items() if v and v.keys() != factors[f]}


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
    short = any(row.f1 is not None for row in rows)
    if short:
        header.insert(5, "F1")
    cells: list[list[object]] = []
    for row in rows:
        share = row.shares["all"]
        line: list[object] = [row.size, row.method, row.retriever, row.variant]
        line.append(f"{share.value:.3f}" if row.baseline else str(share))
        if short:
            line.append("" if row.f1 is None else f"{row.f1:.3f}")
        line.append(share.of)
        if seeds:
            line.append("" if row.seeds is None else f"{row.seeds} ({row.seeds.of})")
        c = comparisons.get(_key(row))
        line += ["", "", ""] if c is None else [str(c.difference), f"{c.wins}-{c.losses}", p_text(c.adjusted)]
        cells.append(line)
    return header, cells


def points_over(factor: str, swept: Swept, found: Sequence[ReportRow]) -> list[tuple[str, Point]]:
    """Return each condition's accuracy with the factor's value, in the order of the cells; its series is the rest.

    A condition that the factor does not touch stands over every value. One at a time, others have first values.
    """
    from kard.evaluation.page.figures import Point

    first = swept.cells[0]
    one_at_a_time = len(swept.cells[-1].shown) < len(first.shown)
    order = list(dict.fromkeys(cell.values[factor] for cell in swept.cells))
    points: list[tuple[str, Point]] = []
    for row in found:
        alike = swept.alike[_key(row)]
        rest = {f: v for f, v in common(alike, swept.cells).items() if f != factor}
        if one_at_a_time:
            others = {**first.values, factor: ""}
            alike, rest = [cell for cell in alike if {**cell.values, factor: ""} == others], {}
        for at in dict.fromkeys(cell.values[factor] for cell in alike):
            points.append((at, Point(row.size, row.method, row.retriever, label(rest), row.shares["all"])))
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
    """Return how long students of these methods train and the run's methods answer, at the rates of the store.

    '' without a rate.
    """
    rates = {row["method"]: row for row in rows(run.db, "internal/rates", task=run.name)}
    answering = [rates[m]["answering"] for m in run.options.methods if m in rates and rates[m]["answering"]]
    if not rates.keys() >= set(trained) or (answers and not answering):
        return ""
    seen = run.options.settings.student_training.epochs * len(run.trained_on.read(run.db))
    training = sum(rates[method]["training"] * seen for method in trained)
    return f"{(training + answers * fmean(answering or [0])) / 1000:.0f}"
