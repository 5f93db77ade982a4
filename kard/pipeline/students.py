"""The steps `student` and `answer`: train the students, and let them answer under each condition."""

from __future__ import annotations

from kard.config import METHODS
from kard.evaluation.answer import answer as answer_conditions
from kard.evaluation.answer import unanswered
from kard.pipeline.run import Run
from kard.pipeline.step import State, Step, count, tested_ids


def student_state(work: Run) -> State:
    """Students trained as chosen, and those to come."""
    made = [work.student_id(size, method) for size, method in work.students()]
    done = sum(student is not None for student in made)
    every = count(work, "select count(*) from students where task = :task and path <> ''")
    trained = sum(METHODS[method].trained for size, method in work.students() if work.student_id(size, method))
    return State("students", done, len(made) - done, every - trained)


def train_student(work: Run, size: str, method: str) -> str:
    """Train a student of that size and method as chosen; its id, the trained one's when nothing has changed.

    A method that is not trained gets a row for its base as it is asked.
    """
    from kard.models.bases import resolve

    known = METHODS[method]
    if not known.trained:
        from kard.student.generation.prompted import register

        return register(
            work.db,
            work.task,
            size,
            resolve(work.base_of(size)),
            known,
            work.choices.settings.prompting,
            teacher_id=work.teacher_id() if known.shots else None,
        )
    from kard.student.training.train import train_student as train

    return train(
        work.db,
        work.task,
        size,
        resolve(work.base_of(size)),
        METHODS[method],
        work.adapters,
        work.choices.settings.student,
        index_id=work.index_id if METHODS[method].reads else None,
        teacher_id=work.teacher_id(),
        limit=work.choices.limit,
        progress=work.progress,
    )


def student(work: Run) -> int:
    """Train the students that are missing."""
    lacking = [pair for pair in work.students() if work.student_id(*pair) is None]
    for size, method in lacking:
        train_student(work, size, method)
    return len(lacking)


def answer_state(work: Run) -> State:
    """Answers given and to come, those of students that are not trained yet among the latter."""
    tested = len(tested_ids(work))
    wanted = tested * sum(len(work.retrievers_of(method)) for _, method in work.students())
    conditions = work.conditions()
    missing = wanted - tested * len(conditions)
    for condition in conditions:
        missing += len(unanswered(work.db, work.task.name, condition, work.choices.test_limit))
    return State("answers", wanted - missing, missing)


def answer(work: Run) -> int:
    """Let every student answer what it has not, under each of its conditions."""
    from kard.student.generation.student import Student

    added = 0
    for condition in work.conditions():
        if unanswered(work.db, work.task.name, condition, work.choices.test_limit):
            asked = [(Student.load(work.db, condition.student_id, work.adapters), condition)]
            limit = work.choices.test_limit
            added += answer_conditions(work.db, work.task, asked, limit=limit, progress=work.progress)
    return added


STUDENT = Step(
    "student",
    "an adapter for each size and method",
    student_state,
    student,
    "delete from students where task = :task",
    needs=("ground",),
)
ANSWER = Step(
    "answer",
    "each condition's answers to the evaluated questions",
    answer_state,
    answer,
    "delete from evaluations where task = :task",
    needs=("student", "rerank", "fuse", "dense", "hybrid"),
)
