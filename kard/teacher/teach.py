"""Ask the teacher for the rationales that the store lacks (section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from sqlite_utils import Database

from kard.config import Teaching
from kard.db import insert_ignoring, rows, writing
from kard.errors import BadConfig, Missing
from kard.progress import SILENT, Progress
from kard.questions import read_questions
from kard.records import Question, Rationale
from kard.tasks import Task
from kard.teacher.budget import Budget
from kard.teacher.calls import Reply, ask, identity
from kard.teacher.records import keep_teacher, record
from kard.teacher.requests import Requests

if TYPE_CHECKING:
    import dspy


@dataclass(frozen=True, slots=True)
class TeachSummary:
    """What a run added, and what it cost."""

    added: int
    accepted: int  # of those added: the conclusion is the gold answer
    skipped: int  # samples that could not be read, twice each
    cost: float  # US dollars; 0 where no price is known
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A sample that the store lacks."""

    question_id: int
    question: Question
    sample: int


def missing_samples(
    db: Database, task: Task, lm: dspy.LM, settings: Teaching, *, split: str = "train", limit: int | None = None
) -> list[Wanted]:
    """The samples that this teacher has not given, of the split's first `limit` questions with a known answer.

    First samples of all questions come before second ones. Raises Missing when the split holds no question.
    """
    questions = dict(read_questions(db, task.name, split))
    if not any(question.answer for question in questions.values()):
        raise Missing(
            f"no {split} questions with answers for {task.name}; load some with: kard load {task.name} FILE"
        )
    found = rows(
        db,
        "missing_samples",
        task=task.name,
        split=split,
        teacher=identity(task, lm.model, settings, lm.model).id,
        samples=settings.samples,
        limit=-1 if limit is None else limit,
    )
    return [
        Wanted(cast(int, row["question_id"]), questions[cast(int, row["question_id"])], cast(int, row["sample"]))
        for row in found
    ]


def expected_cost(db: Database, task: Task, lm: dspy.LM, settings: Teaching) -> float | None:
    """Mean US dollars of this teacher's rationales so far, None when it gave none at a known price."""
    return _cost(db, "avg", identity(task, lm.model, settings, lm.model).id)


def _cost(db: Database, aggregate: str, teacher_id: str) -> float | None:
    query = f"select {aggregate}(cost) from rationales where teacher_id = ? and cost > 0"
    return cast("float | None", db.execute(query, [teacher_id]).fetchone()[0])


def teach(
    db: Database,
    task: Task,
    lm: dspy.LM,
    settings: Teaching,
    *,
    name: str,
    split: str = "train",
    limit: int | None = None,
    max_cost: float | None = None,
    progress: Progress = SILENT,
) -> TeachSummary:
    """Ask `lm` for every sample that is missing; each rationale is kept as it arrives.

    `max_cost` is in US dollars, of this run: no call starts that could pass it if it cost as much as the
    dearest so far. Where no price is known it cannot be kept, and BadConfig is raised after the first call.
    Raises BudgetReached when work remains, TeacherFailed when the provider does not answer, Missing when there
    are no questions. What was paid for by then is kept, after Ctrl-C too, and the next run goes on from there.
    """
    if max_cost is not None and max_cost <= 0:
        raise BadConfig(f"--max-cost must be more than 0 dollars, not {max_cost}")
    teacher = identity(task, lm.model, settings, name)
    missing = missing_samples(db, task, lm, settings, split=split, limit=limit)
    accepted = 0

    def keep(wanted: Wanted, reply: Reply) -> int:
        nonlocal accepted
        if reply.text is None:
            return 0
        rationale = Rationale(
            wanted.question.key,
            wanted.sample,
            reply.text,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            cost=reply.cost or 0.0,
            milliseconds=reply.milliseconds,
        )
        row = record(wanted.question_id, wanted.question, teacher.id, rationale)
        added = insert_ignoring(db, "rationales", [row])
        accepted += added * cast(int, row["accepted"])
        return added

    requests = Requests[Wanted](
        lm.model,
        ask=lambda wanted: ask(lm, task, settings, wanted.question),
        keep=keep,
        budget=Budget(max_cost, _cost(db, "max", teacher.id)),
        workers=settings.workers,
        one="rationale",
        many="rationales",
        again=f"kard teach {task.name} --model {lm.model}",
    )
    if missing:
        with writing(db):
            keep_teacher(db, teacher)
        with progress.bar(f"teaching {split}", len(missing)) as advance:
            requests.run(missing, advance)
    tokens = requests.prompt_tokens, requests.completion_tokens
    return TeachSummary(requests.added, accepted, requests.skipped, requests.budget.spent, *tokens)
