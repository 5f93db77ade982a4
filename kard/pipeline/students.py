"""The steps `student` and `answer`: train the students, and let them answer under each condition."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kard.db import rows
from kard.errors import Missing
from kard.evaluation.answer import answer, unanswered
from kard.methods import METHODS, retrievers_of
from kard.pipeline.options import RunOptions
from kard.pipeline.run import Run
from kard.pipeline.step import State, Step, count_others, differs, evaluated_ids
from kard.recipes import read_recipe

if TYPE_CHECKING:
    from kard.evaluation.condition import Condition
    from kard.student.examples import TrainingExtras
    from kard.student.generation.student import Student


def train_student(run: Run, size: str, method: str) -> str:
    """Train a student of that size and method, unless equal data and settings made one; return its id.

    A method without training gets a row for its base as it is prompted, a rule a row without a base.
    """
    chosen = METHODS[method]
    if chosen.rule:
        from kard.student.records import register_rule

        return register_rule(run.db, run.name, chosen)
    from kard.models.bases import resolve

    base = resolve(run.base_of(size))
    if not chosen.trained:
        from kard.student.records import register_prompted

        source = replace(run.rationale_source, teacher_id=run.teacher_id) if chosen.shots else run.rationale_source
        return register_prompted(run.db, run.task, size, base, chosen, run.options.settings.prompting, source)
    from kard.student.training.train import train_student as train

    student_id = train(
        run.db,
        run.task,
        size,
        base,
        chosen,
        run.adapters,
        chosen.training(run.options.settings),
        replace(run.rationale_source, teacher_id=run.teacher_id),
        index_id=run.index_id if chosen.reads else None,
        extras=_extras(run, size, method),
        progress=run.progress,
        checkpoints=run.checkpoints,
    )
    row = rows(run.db, "internal/student_fit", student=student_id)[0]
    if row["cut"]:
        run.notes.append(
            f"{size}/{method}: {row['cut']:.0%} of the training prompts lost passage text; "
            "raise student.max_length, or lower retrieval.k"
        )
    if row["long_targets"]:
        run.notes.append(
            f"{size}/{method}: {row['long_targets']} of {row['examples']} targets are longer than "
            "student.max_target"
        )
    return student_id


def _extras(run: Run, size: str, method: str) -> TrainingExtras:
    """Return what the student learns from besides rationales. Raises Missing while that is not there."""
    learned = run.extras_for(size, method)
    if learned is None:
        raise Missing(f"{size}/{method} learns from what is not there yet; make it with: kard run {run.name}")
    return learned


def _student_state(run: Run) -> State:
    """Count students of these settings and data, and those to come; note how the last ones differ."""
    students = run.resolved.students
    missing = sum(student is None for student in students.values())
    stored = "select data_sha256, base, size, method, settings from students where task = ? and path <> ''"
    current = [
        (data.sha256, of.base_of(size), size, method, of.student_settings(method))
        for of in (run, run.explaining)
        if of is not None
        for (size, method), data in of.resolved.student_data.items()
        if METHODS[method].trained
    ]
    outdated = count_others(run.db.execute(stored, [run.name]), current)
    note = "; ".join(
        filter(None, (_last_differs(run, *pair) for pair, student in students.items() if student is None))
    )
    return State("students", len(students) - missing, missing, outdated, note)


def _last_differs(run: Run, size: str, method: str) -> str:
    """Return in words how the last student of that size and method differs from the one that is missing."""
    data = run.resolved.student_data.get((size, method))
    earlier = rows(run.db, "internal/last_student", task=run.name, size=size, method=method)
    if not earlier:
        return ""
    if data is None:
        return f"{size} {method}: known when everything that it learns from is there"
    settings = METHODS[method].training(run.options.settings)
    note = differs(read_recipe(earlier[0]["recipe"]), settings, data)
    return f"{size} {method}, the last one: {note}"


def _student(run: Run) -> int:
    """Train the students that are missing."""
    missing = [pair for pair, student in run.resolved.students.items() if student is None]
    for size, method in missing:
        train_student(run, size, method)
    return len(missing)


def _answer_state(run: Run) -> State:
    """Count answers given and to come; those of students that are not trained yet are among the latter."""
    evaluated = len(evaluated_ids(run))
    total = evaluated * sum(len(retrievers_of(method, run.options.retrievers)) for _, method in run.students())
    conditions = run.conditions()
    missing = total - evaluated * len(conditions)
    missing += sum(len(unanswered(run.db, run.name, c, run.evaluated)) for c in conditions)
    return State("answers", total - missing, missing)


def _answer(run: Run) -> int:
    """Let every student answer what it has not, under each of its conditions."""
    added = 0
    for condition in run.conditions():
        if unanswered(run.db, run.name, condition, run.evaluated):
            pairs = [(answering_student(run, condition), condition)]
            added += answer(run.db, run.task, pairs, questions=run.evaluated, progress=run.progress)
    return added


def answering_student(run: Run, condition: Condition) -> Student | None:
    """Return the student of a condition in memory, None for a rule. Raises Missing or NoBase."""
    if METHODS[condition.method].rule:
        return None
    from kard.student.generation.student import load_student

    endpoint = condition.decoding.endpoint
    return load_student(run.db, condition.student_id, run.adapters, endpoint, run.progress.note)


def _conditions(run: Run) -> list[Condition]:
    """Return the conditions under which students answer; a rule needs no worker."""
    return [condition for condition in run.conditions() if not METHODS[condition.method].rule]


def _missing_students(run: Run, _parts: int) -> list[RunOptions]:
    """Return the options of a run for each student that is to be trained."""
    missing = [pair for pair, student in run.resolved.students.items() if student is None]
    narrowed = (replace(run.options, sizes=(size,), methods=(method,)) for size, method in missing)
    return [options for options in narrowed if METHODS[options.methods[0]].trained]


STUDENT = Step(
    "student",
    "train",
    "train an adapter for each size and method",
    _student_state,
    _student,
    drop="internal/drop_student",
    reads=("ground", "training-extras"),
    parts=_missing_students,
)


ANSWER = Step(
    "answer",
    "answer",
    "answer the evaluated questions under each condition",
    _answer_state,
    _answer,
    drop="internal/drop_answer",
    reads=("student", "rerank", "fuse", "dense", "hybrid"),
    conditions=_conditions,
)
