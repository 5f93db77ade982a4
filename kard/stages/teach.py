"""The step `teach`: rationales from a teacher, or those that the store holds."""

from __future__ import annotations

from kard.plan import Work
from kard.stages.contract import OF_TASK, State, Step, count, train_ids


def state(work: Work) -> State:
    """Samples that a named teacher still owes; without one, what the store holds."""
    train = train_ids(work)
    teacher = work.choices.teacher
    if teacher is None or teacher.lm is None:
        kept = count(work, f"select count(*) from rationales where question_id {OF_TASK}")
        note = "" if kept else "ask a teacher with --model, or load recorded rationales"
        return State("rationales", kept, 0 if kept else len(train), note=note)
    from kard.teacher.teach import missing_samples

    settings = work.choices.settings.teaching
    missing = len(missing_samples(work.db, work.task, teacher.lm(), settings, limit=work.choices.limit))
    return State("rationales", len(train) * settings.samples - missing, missing)


def run(work: Work) -> int:
    """Ask for what is missing. Raises Missing when nobody is named and the store holds no rationale."""
    teacher = work.choices.teacher
    if teacher is None or teacher.lm is None:
        work.teacher_id()
        return 0
    from kard.teacher.teach import teach

    taught = teach(
        work.db,
        work.task,
        teacher.lm(),
        work.choices.settings.teaching,
        name=teacher.name,
        limit=work.choices.limit,
        max_cost=teacher.max_cost,
        progress=work.progress,
    )
    return taught.added


TEACH = Step(
    "teach",
    "rationales from the teacher",
    state,
    run,
    f"delete from rationales where question_id {OF_TASK}",
    paid=True,
)
