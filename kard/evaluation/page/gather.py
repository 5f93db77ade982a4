"""From the store to everything that a page shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kard import __version__
from kard.config import Prompting
from kard.db import rows
from kard.errors import Missing
from kard.evaluation.failures import cramped, tally, verdicts
from kard.evaluation.labels import graded_rows
from kard.evaluation.page import sections
from kard.evaluation.page.conditions import Point, baseline, names_of, points
from kard.evaluation.page.questions import Seen, as_seen, sampled
from kard.evaluation.page.sections import Section, one
from kard.evaluation.page.tables import with_interval
from kard.evaluation.report import Graded, accuracy_lines
from kard.evaluation.summary import TeacherCosts
from kard.evaluation.trace import trace

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


def gather(
    db: Database,
    task: str,
    split: str,
    *,
    shots: Sequence[str] | None = None,
    questions: int = 20,
    seed: int = 0,
) -> Page:
    """The page of a split, with `questions` sampled ones. `shots` are the rationales of the teacher's examples.

    Raises Missing without answers, NoExtra.
    """
    graded = [Graded.of(row) for row in graded_rows(db, task, split)]
    if not graded:
        raise Missing(f"no answers for {task}/{split}; make them with: kard run {task}")
    lines = accuracy_lines(graded)
    paid = rows(db, "paid_for_lessons", task=task)
    tokens = [{**row, "cost": int(str(row["prompt_tokens"])) + int(str(row["completion_tokens"]))} for row in paid]
    examples = Prompting().shots
    dollars = TeacherCosts.of(paid, split, examples)
    found = points(lines, dollars, TeacherCosts.of(tokens, split, examples))
    chance = baseline(lines, "chance")
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for one_answer in graded:
        outcomes[one_answer.key].append(bool(one_answer.correct))
    traces = [trace(db, key, task=task) for key in sampled(outcomes, questions, seed)]
    wrong_answers = verdicts(db, task, split)
    wrong = tally(wrong_answers)
    names = names_of(
        {line.condition for line in wrong} | {answer.condition for each in traces for answer in each.answers}
    )
    shown = [as_seen(each, names) for each in sorted(traces, key=lambda each: each.id)]
    parts = [
        sections.accuracy(lines, found, chance),
        sections.size(found, chance),
        sections.hits(db, task, split),
        sections.failures(task, wrong, names, cramped(wrong_answers)),
        sections.costs(db, task, found, lines, dollars),
        sections.rationales(db, task, shots),
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
    # What reads by a rationale of the question itself is a bound, not a student that one could use.
    usable = [point for point in found if point.retriever != "silver"] or found
    best = max(usable, key=lambda point: point.share.value)
    facts = [
        ("questions", f"{questions:,} of split {split}; {trained:,} to learn from"),
        ("conditions", f"{len(found)}"),
        ("best", f"{best.name}: {with_interval(best.share)}"),
        ("newest answer", str(newest).replace("T", " ").replace("+00:00", " UTC")),
    ]
    if passages:
        facts.insert(1, ("knowledge base", f"{passages:,} passages"))
    return facts
