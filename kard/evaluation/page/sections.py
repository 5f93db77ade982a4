"""The parts of a page, each from the store. A sentence stands in the place of what the store does not hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from kard.db import rows, value
from kard.evaluation.condition_names import ConditionInfo
from kard.evaluation.failures import VERDICTS, FailureRow, Verdict
from kard.evaluation.page import figures
from kard.evaluation.page.figures import Curve, Plot, Point, series_name
from kard.evaluation.page.text import PageTable, amount, money, over_seeds, percent, with_interval
from kard.evaluation.rationale_quality import RationaleQuality, measure_rationales, read_rationales
from kard.evaluation.report import ReportRow, TeacherCosts, answer_columns, column_notes, cost_table
from kard.evaluation.retriever_metrics import ceiling_of, hits_groups
from kard.metrics.intervals import wilson

if TYPE_CHECKING:
    from sqlite_utils import Database


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page under its own heading. `absent` says what could not be shown and why."""

    name: str
    title: str
    about: str
    plots: Sequence[Plot] = ()
    tables: Sequence[PageTable] = ()
    absent: Sequence[str] = ()
    command: str = ""  # that shows the rows


def points_of(lines: Sequence[ReportRow], dollars: TeacherCosts, tokens: TeacherCosts) -> list[Point]:
    """Return one point per condition, in the order of the accuracy table, without the baselines.

    `tokens` holds the teacher's tokens in the fields for dollars. Points with long names are numbered.
    """
    points = [
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
        if not line.baseline
    ]
    return figures.numbered(points)


def names_of(conditions: Iterable[ConditionInfo]) -> dict[int, str]:
    """Name each evaluation like its point, with its seed where a condition has several."""
    groups: dict[str, list[ConditionInfo]] = defaultdict(list)
    for condition in conditions:
        groups[_point_name(condition)].append(condition)
    return {
        condition.evaluation_id: f"{name}, seed {condition.seed}" if len({c.seed for c in group}) > 1 else name
        for name, group in groups.items()
        for condition in group
    }


def _point_name(condition: ConditionInfo) -> str:
    return f"{condition.size} {series_name(condition.method, condition.retriever, condition.variant)}"


def accuracy(lines: Sequence[ReportRow], points: Sequence[Point], chance: float | None) -> Section:
    """Show the accuracy table and its figure."""
    kinds = list(lines[0].shares)
    header = ["condition", *(f"{kind} (n = {lines[0].shares[kind].of})" for kind in kinds)]
    several = any(line.seeds and line.seeds.of > 1 for line in lines)
    if several:
        header[2:2] = ["over seeds"]
    counts = {line.shares["all"].of for line in lines}
    columns = answer_columns(lines)
    header += [*(["n"] if len(counts) > 1 else []), *columns]
    body: list[list[object]] = []
    names = (point.name for point in points)
    for line in lines:
        cells = [with_interval(line.shares[kind]) for kind in kinds]
        name = line.method if line.baseline else next(names)
        if line.baseline:
            cells = [percent(line.shares[kind].value) for kind in kinds]
        if several:
            cells[1:1] = [over_seeds(line.seeds)]
        more = [line.shares["all"].of] if len(counts) > 1 else []
        told = ["" if line.baseline or cell(line) is None else cell(line) for cell in columns.values()]
        body.append([name, *cells, *more, *told])
    return Section(
        "accuracy",
        "Accuracy",
        "The share of questions answered rightly, with Wilson's 95% interval over questions, the trainings as they"
        f" are. Columns: {'; '.join(column_notes(lines))}.",
        [figures.accuracy(points, chance)],
        [PageTable("Accuracy in % by kind of question, with 95% intervals", header, body)],
        command="kard query accuracy",
    )


def size(points: Sequence[Point], chance: float | None) -> Section:
    """Show every series over the sizes."""
    return Section(
        "size",
        "Accuracy by size",
        "What a student gains by looking things up, against fine-tuning a model of its size or a larger one.",
        [figures.by_size(points, chance)],
    )


def failures(task: str, wrong: Sequence[FailureRow], names: Mapping[int, str], note: str) -> Section:
    """Show why the wrong answers of each condition are wrong.

    `names` is by evaluation; `note` says what a reader could misread.
    """
    occurring: list[Verdict] = [verdict for verdict in VERDICTS if any(line.counts[verdict] for line in wrong)]
    body = [
        [names[line.condition.evaluation_id], line.wrong, *(line.counts[verdict] for verdict in occurring)]
        for line in wrong
    ]
    return Section(
        "failures",
        "Why answers were wrong",
        "Each wrong answer has one verdict. Knowledge gap: what the question needs was not among the passages to"
        " choose from. Retriever failure: it was, and was not read. Student failure: it was read. Teacher error:"
        " the rationale that would tell what is needed was not accepted. Undetermined: it is not known what is"
        " needed. No lookup: the condition reads nothing." + (f" {note}." if note else ""),
        [figures.failures(_mean_counts(wrong))] if wrong else [],
        [PageTable("Wrong answers by verdict", ["condition", "wrong", *occurring], body)] if wrong else [],
        absent=[] if wrong else ["No answer was wrong."],
        command=f"kard failures {task}" if wrong else "",
    )


def _mean_counts(wrong: Iterable[FailureRow]) -> list[tuple[str, Mapping[str, float]]]:
    """Return the name and mean count of each verdict over the seeds of each condition, in the order given."""
    groups: dict[str, list[FailureRow]] = defaultdict(list)
    for line in wrong:
        groups[_point_name(line.condition)].append(line)
    return [
        (name, {verdict: fmean(line.counts[verdict] for line in group) for verdict in VERDICTS})
        for name, group in groups.items()
    ]


def hits(db: Database, task: str, split: str) -> Section:
    """Show Hits@k of every retriever, for each kind of gold."""
    depth = value(db, "internal/searched_depth", task=task, split=split)
    first_hits = rows(db, "first_hits", task=task, split=split) if depth else []
    curves = curves_of(first_hits, depth) if depth else []
    notes = {
        "evidence": "Needed are the documents that the data set names as evidence.",
        "silver": "Needed are the first three passages by the question's first accepted rationale.",
    }
    for group, found in hits_groups(first_hits).items():
        needed = notes[group.gold.partition(" ")[0]].partition(" The ")[0]
        notes[group.gold] = f"{needed} The knowledge base holds {ceiling_of(found):.0%} of them."
    absent: list[str] = []
    if not depth:
        absent.append("No passages were looked up for these questions, so there is nothing to draw.")
    elif not curves:
        absent.append(
            "Nothing says which passages these questions need: the data names no evidence, and the questions have"
            " no rationales that passages were found with."
        )
    elif all(curve.retriever.startswith("bm25") for curve in curves):
        absent.append("No reranker has ranked these passages.")
    golds = list(dict.fromkeys(curve.gold for curve in curves))
    return Section(
        "retrieval",
        "Retrieval",
        "How far down a list one must look for the first passage that a question needs.",
        [figures.hits(gold, [c for c in curves if c.gold == gold], notes.get(gold, "")) for gold in golds],
        absent=absent,
        command="kard query hits_at_k" if curves else "",
    )


def curves_of(first_hits: Sequence[Mapping[str, Any]], depth: int) -> list[Curve]:
    """Return a curve for each of `hits_groups`, to the depth that was searched."""
    groups = hits_groups(first_hits)
    several_indexes, several_queries = (len({group[i] for group in groups}) > 1 for i in (1, 2))
    curves: list[Curve] = []
    for group, hits in groups.items():
        ranks = [row["rank"] for row in hits]
        shares = [wilson(sum(r is not None and r <= k for r in ranks), len(ranks)) for k in range(1, depth + 1)]
        name = f"{group.retriever} by {group.query}" if several_queries else group.retriever
        name = f"{name} on {group.documents}" if several_indexes else name
        curves.append(Curve(name, group.gold, shares))
    return curves


def costs(
    db: Database, task: str, points: Sequence[Point], lines: Sequence[ReportRow], dollars: TeacherCosts
) -> Section:
    """Show accuracy against the cost of an answer and of the training rationales."""
    plots: list[Plot] = []
    absent: list[str] = []
    with_flops = [(point, point.flops) for point in points if point.flops]
    if with_flops:
        plots.append(
            figures.against(
                [point for point, _ in with_flops],
                [flops for _, flops in with_flops],
                name="flops",
                title="Accuracy against FLOPs per question",
                axis="FLOPs a question",
                note="Of the student alone: twice its parameters times the tokens of prompt and answer.",
                unit=amount,
            )
        )
    else:
        absent.append("These answers were stored without their FLOPs.")
    note = (
        "What the teacher took for all that a condition rests on: rationales of the training questions for what was"
        " trained on them, those of the evaluated questions for silver. They are paid for once, rejected ones too."
    )
    in_dollars = [(point, point.dollars) for point in points if point.dollars is not None]
    in_tokens = [(point, point.tokens) for point in points if point.tokens is not None]
    for noun, axis, unit, priced in (
        ("cost", "US dollars to the teacher", money, in_dollars),
        ("tokens", "tokens of the teacher", amount, in_tokens),
    ):
        if any(price for _, price in priced):
            title = f"Accuracy against the teacher's {noun}"
            conditions, prices = [point for point, _ in priced], [price for _, price in priced]
            plots.append(
                figures.against(conditions, prices, name="teacher", title=title, axis=axis, note=note, unit=unit)
            )
            break
    else:
        absent.append("No cost and no tokens of a teacher are recorded.")
    tables = [PageTable("What a question and its training take", *cost_table(lines, dollars), names=3)]
    paid = list(db.query("select * from costs where task = ? order by teacher", [task]))
    if paid:
        header = ["teacher", "rationales", "prompt tokens", "completion tokens", "US dollars", "seconds"]
        columns = ("teacher", "rationales", "prompt_tokens", "completion_tokens", "cost", "seconds")
        body = [[money(float(row[c])) if c == "cost" else _cell(row[c]) for c in columns] for row in paid]
        tables.append(PageTable("What each teacher took for the whole task", header, body))
    if paid and not any(point.dollars for point in points):
        absent.append("The teacher took no money, so its tokens stand in the place of dollars.")
    return Section(
        "costs",
        "Accuracy and cost",
        "What a right answer takes when it is asked for, and what the training took once.",
        plots,
        tables,
        absent,
        command="kard query costs" if paid else "",
    )


def _cell(cell: object) -> object:
    return f"{cell:,}" if isinstance(cell, int | float) else cell


def rationales(db: Database, task: str, shots: Sequence[str] | None) -> Section:
    """Show the quality of the teachers' rationales. `shots` are those of the prompt's examples, None if unknown."""
    lines = measure_rationales(read_rationales(db, task), shots)
    header = ["split", "teacher", *QUALITY]
    body = [[line.split, line.teacher, *(cell(line) for cell in QUALITY.values())] for line in lines]
    # A column that no row has a value for says nothing.
    filled = [i for i in range(len(header)) if any(row[i] != "" for row in body)]
    table = PageTable(
        "Quality of the rationales",
        [header[i] for i in filled],
        [[row[i] for i in filled] for row in body],
        names=2,
    )
    return Section(
        "rationales",
        "Rationales",
        "Are the rationales right, different and grounded? Accepted: the conclusion is the gold answer. Distinct"
        " pairs: of the pairs of words in a question's samples, the different ones. Grounded: the content words"
        " that the first passages found with the rationale hold; by chance: that another question's hold.",
        tables=[table] if lines else [],
        absent=[] if lines else ["The store holds no rationales of this task."],
        command=f"kard rationales {task} --quality" if lines else "",
    )


QUALITY: Mapping[str, Callable[[RationaleQuality], object]] = {
    "rationales": lambda q: f"{q.rationales:,}",
    "questions": lambda q: f"{q.questions:,}",
    "accepted": lambda q: percent(q.accepted),
    "unread": lambda q: percent(q.unread),
    "judged good": lambda q: percent(q.judged_good),
    "words": lambda q: f"{q.words:.0f}",
    "repeats itself": lambda q: percent(q.repeats),
    "distinct pairs": lambda q: percent(q.distinct),
    "same sample": lambda q: percent(q.same),
    "grounded": lambda q: percent(q.grounded),
    "names grounded": lambda q: percent(q.names),
    "by chance": lambda q: percent(q.by_chance),
    "copies examples": lambda q: percent(q.copies),
}
