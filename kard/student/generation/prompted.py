"""Base models without an adapter, asked in the student's own form: the in-context rows of the paper's table (4.1).

    The task's instruction, in a line

    Question: a training question          worked examples, where the method shows some
    Options: (A) one (B) other
    Rationale: why
    Answer: one

    Question: what is asked
    Options: (A) one (B) other
    Rationale:

With a retriever the examples hold their silver passages, as the question holds what was found for it.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import dspy
from sqlite_utils import Database

from kard.config import Method, Prompting, StudentTraining
from kard.db import insert_ignoring, now
from kard.models.bases import Base
from kard.records import canonical, digest
from kard.student import prompt as render
from kard.student.examples import Pair, training_pairs
from kard.student.generation.student import LoadedBase, Student, settings_of
from kard.student.tokens import PROMPT_SHARE
from kard.tasks import Task

SHOTS, TEACHER = "shots", "teacher"  # in the `settings` of a row
Shot = Mapping[str, Any]  # the fields of a task's `answer` signature, inputs and outputs


class PromptedAdapter(render.StudentAdapter):
    """The student's form after the signature's instruction and the demonstrations: a base model is shown."""

    def format(
        self, signature: type[dspy.Signature], demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """One user message."""
        return [{"role": "user", "content": render.shown(signature, demos, inputs)}]


class Prompted(Student):
    """The base itself. It does not know where an answer ends, so what it writes after one does not count."""

    def __init__(self, home: LoadedBase, asked: Prompting, teacher: str, *, name: str) -> None:
        training = StudentTraining(max_length=asked.max_length, k=asked.k, seed=asked.seed)
        super().__init__(home, None, training, name=name)
        self.asked, self.teacher = asked, teacher

    def kept(self, prompt: str, text: str) -> str:
        """The text up to the end of its first answer, or to where the next question begins."""
        return render.first_answer(prompt, text)

    def fitting(self, signature: type[dspy.Signature], shots: Sequence[Shot]) -> list[Shot]:
        """The first of the examples that fit half of the prompt: the question and its passages have the other."""
        room = self.settings.max_length * PROMPT_SHARE / 2
        kept: list[Shot] = []
        for shot in shots:
            room -= len(self.home.tokens.ids(render.worked(signature, shot)))
            if room < 0:
                break
            kept.append(shot)
        return kept


def settings_text(method: Method, asked: Prompting, teacher_id: str | None) -> str:
    """The `settings` of a prompted row: how it is asked and, where it is shown examples, whose rationales."""
    values = asked.values()
    return canonical({**values, TEACHER: teacher_id} if method.shots else {**values, SHOTS: 0})


def register(
    db: Database,
    task: Task,
    size: str,
    base: Base,
    method: Method,
    asked: Prompting,
    *,
    teacher_id: str | None,
) -> str:
    """A row of `students` for the base model asked so; its id. A second time it is the same row.

    It has no adapter. Raises Missing when there are no accepted rationales to show.
    """
    shown = chosen(db, task.name, method, asked, index_id=None, teacher_id=teacher_id) if method.shots else []
    written = [[pair.question_id, pair.rationale] for pair in shown]
    data = hashlib.sha256(json.dumps(written, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()
    settings = settings_text(method, asked, teacher_id)
    row = {
        "id": digest(task.name, size, base.sha256, method.name, settings, data),
        "task": task.name,
        "method": method.name,
        "size": size,
        "base": base.spec,
        "base_sha256": base.sha256,
        "settings": settings,
        "data_sha256": data,
        "seed": asked.seed,
        "examples": len(shown),
        "tokens": 0,
        "loss": 0.0,
        "path": "",
        "sha256": "",
        "milliseconds": 0.0,
        "created": now(),
    }
    insert_ignoring(db, "students", [row])
    return str(row["id"])


def load(home: LoadedBase, row: Mapping[str, Any]) -> Prompted:
    """The prompted base of a row of `students` over its base in memory."""
    values = json.loads(row["settings"])
    known = settings_of(row["settings"])
    asked = Prompting(max(1, values[SHOTS]), known.k, known.max_length, known.seed)
    return Prompted(home, asked, str(values.get(TEACHER) or ""), name=row["id"])


def shots_for(db: Database, task: Task, method: Method, student: Prompted, index_id: str | None) -> list[Shot]:
    """The examples that the student is shown; with an index, each with its silver passages on it."""
    pairs = chosen(db, task.name, method, student.asked, index_id=index_id, teacher_id=student.teacher or None)
    shots = [{**pair.inputs(), **pair.outputs(student.settings)} for pair in pairs]
    return student.fitting(render.signature_for(task.answer, method), shots)


def chosen(
    db: Database, task_name: str, method: Method, asked: Prompting, *, index_id: str | None, teacher_id: str | None
) -> list[Pair]:
    """Training questions drawn by the seed, each with its shortest accepted rationale. Raises Missing."""
    silent = Method(method.name, reads=index_id is not None, reasons=True)
    pairs = training_pairs(
        db, task_name, silent, StudentTraining(k=asked.k), index_id=index_id, teacher_id=teacher_id
    )
    shortest: dict[int, Pair] = {}
    for pair in pairs:
        shortest.setdefault(pair.question_id, pair)
    drawn = random.Random(f"shots {asked.seed}").sample(sorted(shortest), min(asked.shots, len(shortest)))
    return [shortest[question] for question in drawn]
