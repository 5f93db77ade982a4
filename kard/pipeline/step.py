"""What a step is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kard.pipeline.run import Run
from kard.questions import read_questions


@dataclass(frozen=True, slots=True)
class State:
    """How far a step is, in its own units. `outdated` counts what was made by an older form."""

    unit: str
    done: int
    missing: int
    outdated: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the pipeline. It commits each unit when it is done and adds nothing on a second run."""

    name: str
    about: str
    state: Callable[[Run], State]
    run: Callable[[Run], int]  # does what is missing; the number of units added
    drop: str  # the statement that deletes what it made, with the parameter :task
    needs: tuple[str, ...] = ()  # the steps whose results it reads
    paid: bool = False  # what it made was paid for: kept by `rebuild` unless told otherwise


OF_TASK = "in (select id from questions where task = :task)"
"""Completes `question_id` in a statement with the parameter :task."""


def count(work: Run, sql: str, **values: object) -> int:
    """The number that a statement with the parameter :task gives."""
    return int(work.db.execute(sql, {"task": work.task.name, **values}).fetchone()[0] or 0)


def train_ids(work: Run) -> list[int]:
    """Ids of the training questions of this run."""
    questions = read_questions(work.db, work.task.name, split="train", limit=work.choices.limit)
    return [i for i, _ in questions]


def tested_ids(work: Run) -> list[int]:
    """Ids of the evaluated questions of this run."""
    questions = read_questions(work.db, work.task.name, split=work.split, limit=work.choices.test_limit)
    return [i for i, _ in questions]
