"""The step `teach`: rationales from a teacher, or those that the store holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kard.acceptance import count_accepted, missing_verdicts
from kard.config import Teaching
from kard.db import value
from kard.errors import KardError
from kard.pipeline.run import Run
from kard.pipeline.step import State, Step
from kard.questions import QuestionSet

SPENT = 1e-9  # US dollars left of a budget that is spent: enough to start, too little for a call


def explained(run: Run) -> Iterator[tuple[QuestionSet, Teaching]]:
    """Yield the questions that the teacher explains, with the settings.

    Evaluated questions get one rationale each, and only if their silver passages are read. Nothing is trained on
    those.
    """
    settings = run.options.settings.teaching
    yield run.trained_on, settings
    if run.options.reads_from("silver"):
        yield run.evaluated, replace(settings, samples=1)


def _state(run: Run) -> State:
    """Count the samples that a named teacher still owes; without one, what the store holds."""
    teacher = run.options.teacher
    if teacher is None or teacher.lm is None:
        stored = value(run.db, "internal/count_rationales", task=run.name)
        note = _usable(run) if stored else "ask a teacher with --model, or load recorded rationales"
        return State("rationales", stored, 0 if stored else len(run.trained_on.read(run.db)), note=note)
    from kard.teacher.calls import with_passages
    from kard.teacher.teach import missing_samples, unpriced

    done = missing = 0
    for questions, settings in explained(run):
        task = with_passages(run.task, settings.k)
        owed = len(missing_samples(run.db, task, questions, teacher.lm(), settings))
        missing += owed
        done += len(questions.read(run.db)) * settings.samples - owed
    teaching = run.options.settings.teaching
    error = unpriced(run.db, with_passages(run.task, teaching.k), teacher.lm(), teaching, teacher.max_cost)
    return State("rationales", done, missing, note=str(error) if error else _accepted(run))


def _usable(run: Run) -> str:
    """Say how many rationales are accepted, or why nothing can be trained on them."""
    try:
        _ = run.teacher_id
    except KardError as error:
        return str(error)
    return _accepted(run)


def _accepted(run: Run) -> str:
    """Say how many rationales of the training questions are accepted, or that verdicts are missing."""
    teachers = list(run.resolved.teachers)
    teacher_id = teachers[0] if len(teachers) == 1 else None
    counts = count_accepted(run.db, run.trained_on, run.accept, teacher_id)
    if counts.unverified:
        return missing_verdicts(run.name, counts)
    note = f"{counts.accepted:,} of {counts.rationales:,} for training are accepted ({run.accept})"
    if counts.unexplained:
        have = "question has" if counts.unexplained == 1 else "questions have"
        note += f"; {counts.unexplained:,} training {have} no rationale"
    return note


def _teach(run: Run) -> int:
    """Ask for what is missing. Raises Missing if nobody is named and the store holds no rationale."""
    teacher = run.options.teacher
    if teacher is None or teacher.lm is None:
        _ = run.teacher_id  # raises where nothing could be trained on
        return 0
    from kard.teacher.calls import with_passages
    from kard.teacher.teach import by_heart, reading, teach

    added, spent = 0, 0.0
    for questions, settings in explained(run):
        summary = teach(
            run.db,
            with_passages(run.task, settings.k),
            questions,
            teacher.lm(),
            settings,
            name=teacher.name,
            find=reading(run.kb, settings.k) if settings.k else by_heart,
            max_cost=None if teacher.max_cost is None else max(teacher.max_cost - spent, SPENT),
            progress=run.progress,
        )
        added, spent = added + summary.added, spent + summary.cost
    return added


TEACH = Step(
    name="teach",
    kind="teach",
    about="ask the teacher for rationales",
    state=_state,
    run=_teach,
    drop="internal/drop_teach",
    drop_rest=("internal/drop_failed",),  # the samples that failed are asked for again, too
    needed=lambda run: run.options.uses_rationales,
)
