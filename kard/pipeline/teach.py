"""The step `teach`: rationales from a teacher, or those that the store holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kard.config import Teaching
from kard.pipeline.run import Run
from kard.pipeline.step import OF_TASK, State, Step, count, train_ids
from kard.questions import read_questions

LEAST = 1e-9  # US dollars: what is left of a budget that is spent, so that the teacher says so


def state(work: Run) -> State:
    """Samples that a named teacher still owes; without one, what the store holds."""
    teacher = work.choices.teacher
    if teacher is None or teacher.lm is None:
        kept = count(work, f"select count(*) from rationales where question_id {OF_TASK}")
        note = "" if kept else "ask a teacher with --model, or load recorded rationales"
        return State("rationales", kept, 0 if kept else len(train_ids(work)), note=note)
    from kard.teacher.teach import missing_samples

    done = missing = 0
    for split, settings, limit in asked(work):
        questions = read_questions(work.db, work.task.name, split=split, limit=limit)
        owed = len(missing_samples(work.db, work.task, teacher.lm(), settings, split=split, limit=limit))
        missing += owed
        done += len(questions) * settings.samples - owed
    return State("rationales", done, missing)


def asked(work: Run) -> Iterator[tuple[str, Teaching, int | None]]:
    """The splits that the teacher explains, with how and how many questions of each.

    Evaluated questions get one rationale each when their silver passages are read: nothing is trained on it.
    """
    settings = work.choices.settings.teaching
    yield "train", settings, work.choices.limit
    if "silver" in work.choices.retrievers and work.choices.reads:
        yield work.split, replace(settings, samples=1), work.choices.test_limit


def run(work: Run) -> int:
    """Ask for what is missing. Raises Missing when nobody is named and the store holds no rationale."""
    teacher = work.choices.teacher
    if teacher is None or teacher.lm is None:
        work.teacher_id()
        return 0
    from kard.teacher.teach import teach

    added, spent = 0, 0.0
    for split, settings, limit in asked(work):
        taught = teach(
            work.db,
            work.task,
            teacher.lm(),
            settings,
            name=teacher.name,
            split=split,
            limit=limit,
            max_cost=None if teacher.max_cost is None else max(teacher.max_cost - spent, LEAST),
            progress=work.progress,
        )
        added, spent = added + taught.added, spent + taught.cost
    return added


TEACH = Step(
    "teach",
    "rationales from the teacher",
    state,
    run,
    f"delete from rationales where question_id {OF_TASK}",
    paid=True,
)
