"""The parts of a page, each from the store. What the store does not hold is left out with a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kard.db import rows
from kard.evaluation.failures import tally, verdicts
from kard.evaluation.page import figures
from kard.evaluation.page.conditions import Point, curves, series_name
from kard.evaluation.page.figures import Plot
from kard.evaluation.page.tables import Table, amount, money, percent, with_interval
from kard.evaluation.report import BASELINES, Line
from kard.evaluation.verdicts import VERDICTS

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
    query: str = ""  # the canned query that shows the rows


def accuracy(lines: Sequence[Line], found: Sequence[Point], chance: float | None) -> Section:
    """The accuracy table and its figure."""
    kinds = list(lines[0].shares)
    header = ["condition", *(f"{kind} (n = {lines[0].shares[kind].of})" for kind in kinds), "unread"]
    body: list[list[object]] = []
    for line in lines:
        base = line.method in BASELINES
        name = line.method if base else f"{line.size} {series_name(line.method, line.retriever)}"
        shares = (line.shares[kind] for kind in kinds)
        body.append([name, *(percent(s.value) if base else with_interval(s) for s in shares), line.unread])
    return Section(
        "accuracy",
        "Accuracy",
        "The share of questions answered rightly, with Wilson's 95% interval. An answer that could not be read is"
        " wrong.",
        [figures.accuracy(found, chance)],
        [Table("Accuracy in % by kind of question, with 95% intervals", header, body)],
        query="accuracy",
    )


def size(found: Sequence[Point], chance: float | None) -> Section:
    """Every series over the sizes."""
    return Section(
        "size",
        "Accuracy by size",
        "What a student gains by looking things up, against fine-tuning a model of its size or a larger one.",
        [figures.by_size(found, chance)],
    )


def failures(db: Database, task: str, split: str) -> Section:
    """Why the wrong answers of each condition are wrong."""
    lines = tally(verdicts(db, task, split))
    header = ["condition", "wrong", *VERDICTS]
    body = [[line.condition.name, line.wrong, *(line.counts[verdict] for verdict in VERDICTS)] for line in lines]
    return Section(
        "failures",
        "Why answers were wrong",
        "Each wrong answer has one verdict. Knowledge gap: what the question needs was not among the passages to"
        " choose from. Retriever failure: it was, and was not read. Student failure: it was read. Teacher error:"
        " the rationale that would tell what is needed was not accepted. Undetermined: it is not known what is"
        " needed.",
        [figures.failures(lines)] if lines else [],
        [Table("Wrong answers by verdict", header, body)] if lines else [],
        absent=[] if lines else ["No answer was wrong."],
    )


def hits(db: Database, task: str, split: str) -> Section:
    """Hits@k of every retriever, for each kind of gold."""
    depth = one(
        db,
        "select max(r.depth) from retrievals r join questions q on q.id = r.question_id"
        " where q.task = ? and q.split = ? and r.query = 'question'",
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
        query="hits_at_k" if found else "",
    )


def costs(db: Database, task: str, found: Sequence[Point]) -> Section:
    """Accuracy against what an answer and its lessons took."""
    paid = list(db.query("select * from costs where task = ? order by teacher", [task]))
    plots: list[Plot] = []
    absent: list[str] = []
    flops = {point: point.flops for point in found if point.flops > 0}
    if flops:
        plots.append(
            figures.against(
                found,
                flops,
                name="flops",
                title="Accuracy against FLOPs per question",
                axis="FLOPs a question",
                note="Of the student alone: twice its parameters times the tokens of prompt and answer.",
                unit=amount,
            )
        )
    else:
        absent.append("These answers were stored without their FLOPs.")
    lessons = {point: point.lessons for point in found}
    for unit, what, axis, of in (
        (money, "cost", "US dollars for the lessons", "cost"),
        (amount, "tokens", "teacher's tokens for the lessons", "prompt_tokens + r.completion_tokens"),
    ):
        each = _each(db, task, of)
        if each and any(lessons.values()):
            plots.append(
                figures.against(
                    found,
                    {point: each * count for point, count in lessons.items()},
                    name="teacher",
                    title=f"Accuracy against the teacher's {what}",
                    axis=axis,
                    note="Rationales that a student learned from, times what an accepted one took on average, the"
                    " rejected ones included. Methods that learn from answers alone paid nothing.",
                    unit=unit,
                )
            )
            break
        if what == "cost" and paid:
            absent.append("The teacher took no money, so that its tokens stand in the place of dollars.")
    else:
        absent.append("No cost of a teacher is recorded for these students.")
    header = ["teacher", "rationales", "prompt tokens", "completion tokens", "US dollars", "seconds"]
    names = ("teacher", "rationales", "prompt_tokens", "completion_tokens", "cost", "seconds")
    table = Table("What each teacher took for the whole task", header, [_cells(row, names) for row in paid])
    return Section(
        "costs",
        "Accuracy and cost",
        "What a right answer costs when it is asked for, and what the lessons cost once.",
        plots,
        [table] if paid else [],
        absent,
        query="costs" if paid else "",
    )


def _each(db: Database, task: str, what: str) -> float:
    """What one accepted rationale of the training split took on average, with its share of the rejected ones."""
    return float(
        one(
            db,
            f"select sum(r.{what}) * 1.0 / nullif(sum(r.accepted), 0) from rationales r"
            " join questions q on q.id = r.question_id where q.task = ? and q.split = 'train'",
            [task],
        )
        or 0
    )


def quality(db: Database, task: str) -> Section:
    """What the teachers' rationales are worth."""
    found = list(db.query("select * from rationale_quality where task = ? order by split, teacher", [task]))
    header = ["split and teacher", "rationales", "questions", "accepted", "unread", "characters"]
    body = [
        [
            f"{row['split']}, {row['teacher']}",
            row["rationales"],
            row["questions"],
            percent(float(str(row["accepted"]))),
            percent(float(str(row["unread"]))),
            row["characters"],
        ]
        for row in found
    ]
    return Section(
        "rationales",
        "Rationales",
        "What the teachers wrote: accepted when the rationale's own conclusion is the gold answer.",
        tables=[Table("Quality of the rationales", header, body)] if found else [],
        absent=[] if found else ["The store holds no rationales of this task."],
        query="rationale_quality" if found else "",
    )


def _cells(row: Mapping[str, object], names: Sequence[str]) -> list[object]:
    return [f"{cell:,}" if isinstance(cell := row[name], int | float) else cell for name in names]


def one(db: Database, sql: str, values: Sequence[object]) -> Any:
    """The first value of the first row, None when there is none."""
    row = db.execute(sql, list(values)).fetchone()
    return None if row is None else row[0]
