"""From the store to everything that a page shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kard import __version__
from kard.db import rows
from kard.errors import Missing
from kard.evaluation.page import sections
from kard.evaluation.page.conditions import Key, Point, baseline, points
from kard.evaluation.page.questions import Seen, sampled, seen
from kard.evaluation.page.sections import Section, one
from kard.evaluation.page.tables import with_interval
from kard.evaluation.report import Graded, accuracy_lines

if TYPE_CHECKING:
    from sqlite_utils import Database


@dataclass(frozen=True, slots=True)
class Page:
    """All that a page shows."""

    task: str
    split: str
    version: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    questions: Sequence[Seen]
    conditions: Sequence[str]  # that these questions' answers are of
    verdicts: Sequence[str]  # that occur among these questions' answers


def gather(db: Database, task: str, split: str, *, questions: int = 20, seed: int = 0) -> Page:
    """The page of a split, with the traces of `questions` sampled ones. Raises Missing without answers, NoExtra."""
    graded = rows(db, "graded", task=task, split=split)
    if not graded:
        raise Missing(f"no answers for {task}/{split}; make them with: kard run {task}")
    lines = accuracy_lines([Graded.of(row) for row in graded])
    found = points(graded, _lessons(db, task, split))
    chance = baseline(lines, "chance")
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for row in graded:
        outcomes[str(row["key"])].append(bool(row["correct"]))
    shown = seen(db, task, sampled(outcomes, questions, seed))
    parts = [
        sections.accuracy(lines, found, chance),
        sections.size(found, chance),
        sections.hits(db, task, split),
        sections.failures(db, task, split),
        sections.costs(db, task, found),
        sections.quality(db, task),
    ]
    answers = [answer for question in shown for answer in question.answers]
    return Page(
        task,
        split,
        __version__,
        _facts(db, task, split, len(outcomes), found),
        parts,
        shown,
        list(dict.fromkeys(answer.condition for answer in answers)),
        sorted({answer.verdict for answer in answers} - {""}),
    )


def _lessons(db: Database, task: str, split: str) -> dict[Key, int]:
    """How many sequences each condition's student learned from, the mean of its seeds."""
    found = db.execute(
        "select s.size, s.method, e.retriever, avg(s.examples) from evaluations e"
        " join students s on s.id = e.student_id where e.task = ? and e.split = ? group by 1, 2, 3",
        [task, split],
    )
    return {(size, method, retriever): round(mean) for size, method, retriever, mean in found}


def _facts(
    db: Database, task: str, split: str, questions: int, found: Sequence[Point]
) -> Sequence[tuple[str, str]]:
    trained = one(db, "select count(*) from questions where task = ? and split = 'train'", [task])
    passages = one(
        db,
        "select i.passages from evaluations e join indexes i on i.id = e.index_id"
        " where e.task = ? and e.split = ? order by e.id desc limit 1",
        [task, split],
    )
    newest = one(
        db,
        "select max(p.created) from predictions p join evaluations e on e.id = p.evaluation_id"
        " where e.task = ? and e.split = ?",
        [task, split],
    )
    best = max(found, key=lambda point: point.share.value)
    facts = [
        ("questions", f"{questions:,} of split {split}; {trained:,} to learn from"),
        ("conditions", f"{len(found)}"),
        ("best", f"{best.name}: {with_interval(best.share)}"),
        ("newest answer", str(newest)),
    ]
    if passages:
        facts.insert(1, ("knowledge base", f"{passages:,} passages"))
    return facts
