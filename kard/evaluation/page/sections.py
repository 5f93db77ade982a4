"""The parts of a page, each from the store. What the store does not hold is left out with a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kard.db import rows
from kard.evaluation import summary
from kard.evaluation.failures import FailureRow
from kard.evaluation.page import figures
from kard.evaluation.page.conditions import Point, curves, series_name, without_seeds
from kard.evaluation.page.figures import Plot
from kard.evaluation.page.tables import Table, amount, money, over_seeds, percent, with_interval
from kard.evaluation.quality import Quality, quality, read_written
from kard.evaluation.report import BASELINES, ReportRow
from kard.evaluation.summary import TeacherCosts
from kard.evaluation.verdicts import VERDICTS, Verdict

if TYPE_CHECKING:
    from sqlite_utils import Database


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page under its own heading. `absent` says what could not be shown and why."""

    name: str
    title: str
    about: str
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    absent: Sequence[str] = ()
    command: str = ""  # that shows the rows


def accuracy(lines: Sequence[ReportRow], found: Sequence[Point], chance: float | None) -> Section:
    """The accuracy table and its figure."""
    kinds = list(lines[0].shares)
    header = ["condition", *(f"{kind} (n = {lines[0].shares[kind].of})" for kind in kinds), "unread"]
    several = any(line.seeds and line.seeds.of > 1 for line in lines)
    if several:
        header[2:2] = ["over seeds"]
    body: list[list[object]] = []
    for line in lines:
        base = line.method in BASELINES
        name = line.method if base else f"{line.size} {series_name(line.method, line.retriever, line.variant)}"
        cells = [percent(s.value) if base else with_interval(s) for s in (line.shares[kind] for kind in kinds)]
        if several:
            cells[1:1] = [over_seeds(line.seeds)]
        body.append([name, *cells, "" if base else line.unread])
    return Section(
        "accuracy",
        "Accuracy",
        "The share of questions answered rightly, with Wilson's 95% interval. An answer that could not be read is"
        " wrong.",
        [figures.accuracy(found, chance)],
        [Table("Accuracy in % by kind of question, with 95% intervals", header, body)],
        command="kard query accuracy",
    )


def size(found: Sequence[Point], chance: float | None) -> Section:
    """Every series over the sizes."""
    return Section(
        "size",
        "Accuracy by size",
        "What a student gains by looking things up, against fine-tuning a model of its size or a larger one.",
        [figures.by_size(found, chance)],
    )


def failures(task: str, wrong: Sequence[FailureRow], names: Mapping[int, str], note: str) -> Section:
    """Why the wrong answers of each condition are wrong; `names` by evaluation, `note` what one could misread."""
    met: list[Verdict] = [verdict for verdict in VERDICTS if any(line.counts[verdict] for line in wrong)]
    body = [
        [names[line.condition.evaluation_id], line.wrong, *(line.counts[verdict] for verdict in met)]
        for line in wrong
    ]
    return Section(
        "failures",
        "Why answers were wrong",
        "Each wrong answer has one verdict. Knowledge gap: what the question needs was not among the passages to"
        " choose from. Retriever failure: it was, and was not read. Student failure: it was read. Teacher error:"
        " the rationale that would tell what is needed was not accepted. Undetermined: it is not known what is"
        " needed. No lookup: the condition reads nothing." + (f" {note}." if note else ""),
        [figures.failures(without_seeds(wrong))] if wrong else [],
        [Table("Wrong answers by verdict", ["condition", "wrong", *met], body)] if wrong else [],
        absent=[] if wrong else ["No answer was wrong."],
        command=f"kard failures {task}" if wrong else "",
    )


def hits(db: Database, task: str, split: str) -> Section:
    """Hits@k of every retriever, for each kind of gold."""
    depth = one(
        db,
        "select max((select max(rank) from hits where retrieval_id = r.id)) from retrievals r"
        " join questions q on q.id = r.question_id where q.task = ? and q.split = ? and r.query = 'question'",
        [task, split],
    )
    found = curves(rows(db, "first_hits", task=task, split=split), depth) if depth else []
    why = {
        "evidence": "Needed are the documents that the data set names as evidence.",
        "silver": "Needed are the first three passages by a rationale of the question.",
    }
    absent: list[str] = []
    if not depth:
        absent.append("No passages were looked up for these questions, so there is nothing to draw.")
    elif not found:
        absent.append(
            "Nothing says which passages these questions need: the data names no evidence, and the questions have"
            " no rationales that passages were found with."
        )
    elif all(curve.retriever == "bm25" for curve in found):
        absent.append("No reranker has ranked these passages.")
    golds = list(dict.fromkeys(curve.gold for curve in found))
    return Section(
        "retrieval",
        "Retrieval",
        "How far down a list one must look for the first passage that a question needs.",
        [figures.hits(gold, [c for c in found if c.gold == gold], why.get(gold, "")) for gold in golds],
        absent=absent,
        command="kard query hits_at_k" if found else "",
    )


def costs(
    db: Database, task: str, found: Sequence[Point], lines: Sequence[ReportRow], dollars: TeacherCosts
) -> Section:
    """Accuracy against what an answer and its lessons took."""
    plots: list[Plot] = []
    absent: list[str] = []
    known = [(point, point.flops) for point in found if point.flops]
    if known:
        plots.append(
            figures.against(
                [point for point, _ in known],
                [flops for _, flops in known],
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
    bill = [("cost", "US dollars to the teacher", money, [(p, p.dollars) for p in found if p.dollars is not None])]
    bill += [("tokens", "tokens of the teacher", amount, [(p, p.tokens) for p in found if p.tokens is not None])]
    for what, axis, unit, prices in bill:
        if any(price for _, price in prices):
            shown, values = [point for point, _ in prices], [price for _, price in prices]
            title = f"Accuracy against the teacher's {what}"
            plots.append(
                figures.against(shown, values, name="teacher", title=title, axis=axis, note=note, unit=unit)
            )
            break
    else:
        absent.append("No cost and no tokens of a teacher are recorded.")
    tables = [Table("What a question and its lessons take", *summary.costs(lines, dollars), names=3)]
    paid = list(db.query("select * from costs where task = ? order by teacher", [task]))
    if paid:
        header = ["teacher", "rationales", "prompt tokens", "completion tokens", "US dollars", "seconds"]
        names = ("teacher", "rationales", "prompt_tokens", "completion_tokens", "cost", "seconds")
        body = [[money(float(row[n])) if n == "cost" else _cell(row[n]) for n in names] for row in paid]
        tables.append(Table("What each teacher took for the whole task", header, body))
    if paid and not any(point.dollars for point in found):
        absent.append("The teacher took no money, so its tokens stand in the place of dollars.")
    return Section(
        "costs",
        "Accuracy and cost",
        "What a right answer takes when it is asked for, and what the lessons took once.",
        plots,
        tables,
        absent,
        command="kard query costs" if paid else "",
    )


def rationales(db: Database, task: str, shots: Sequence[str] | None) -> Section:
    """What the teachers' rationales are worth. `shots` are those of the prompt's examples, None when not known."""
    found = quality(read_written(db, task), shots)
    header = ["split", "teacher", *QUALITY]
    body = [[q.split, q.teacher, *(write(q) for write in QUALITY.values())] for q in found]
    # A column that no row has a value for says nothing.
    kept = [i for i in range(len(header)) if any(row[i] != "" for row in body)]
    table = Table(
        "Quality of the rationales",
        [header[i] for i in kept],
        [[row[i] for i in kept] for row in body],
        names=2,
    )
    return Section(
        "rationales",
        "Rationales",
        "Are the rationales right, different and grounded? Accepted: the conclusion is the gold answer. Distinct"
        " pairs: of the pairs of words in a question's samples, the different ones. Grounded: the content words"
        " that the first passages found with the rationale hold; by chance: that another question's hold.",
        tables=[table] if found else [],
        absent=[] if found else ["The store holds no rationales of this task."],
        command=f"kard rationales {task} --quality" if found else "",
    )


def _share(value: float | None) -> str:
    return "" if value is None else percent(value)


QUALITY: Mapping[str, Callable[[Quality], object]] = {
    "rationales": lambda q: f"{q.rationales:,}",
    "questions": lambda q: f"{q.questions:,}",
    "accepted": lambda q: percent(q.accepted),
    "unread": lambda q: percent(q.unread),
    "judged good": lambda q: _share(q.judged_good),
    "words": lambda q: f"{q.words:.0f}",
    "repeats itself": lambda q: percent(q.repeats),
    "distinct pairs": lambda q: _share(q.distinct),
    "same sample": lambda q: _share(q.same),
    "grounded": lambda q: _share(q.grounded),
    "names grounded": lambda q: _share(q.names),
    "by chance": lambda q: _share(q.by_chance),
    "copies examples": lambda q: _share(q.copies),
}


def _cell(value: object) -> object:
    return f"{value:,}" if isinstance(value, int | float) else value


def one(db: Database, sql: str, values: Sequence[object]) -> Any:
    """The first value of the first row, None when there is none."""
    row = db.execute(sql, list(values)).fetchone()
    return None if row is None else row[0]
