"""Ask the teacher for the rationales that the store lacks (section 3.1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from textwrap import shorten
from typing import TYPE_CHECKING, cast

from sqlite_utils import Database

from kard.config import Teaching
from kard.db import insert_ignoring, rows, writing
from kard.errors import BadConfig, BudgetReached, Missing, TeacherFailed
from kard.progress import SILENT, Advance, Progress
from kard.questions import read_questions
from kard.records import Question, Rationale
from kard.tasks import Task
from kard.teacher.asking import Reply, ask, identity
from kard.teacher.budget import Budget
from kard.teacher.keeping import Identity, keep_teacher, record

if TYPE_CHECKING:
    import dspy

UNREADABLE = 20  # answers in a row without a rationale: the model does not understand the form


@dataclass(frozen=True, slots=True)
class Taught:
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
) -> Taught:
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
    lesson = Lesson(db, task, lm, settings, teacher, Budget(max_cost, _cost(db, "max", teacher.id)))
    if missing:
        with writing(db):
            keep_teacher(db, teacher)
        with progress.bar(f"teaching {split}", len(missing)) as advance:
            lesson.give(missing, advance)
    return lesson.taught()


@dataclass(slots=True)
class Lesson:
    """One run: workers ask, the thread that called writes."""

    db: Database
    task: Task
    lm: dspy.LM
    settings: Teaching
    teacher: Identity
    budget: Budget
    added: int = 0
    accepted: int = 0
    skipped: int = 0
    unreadable: int = 0  # in a row
    prompt_tokens: int = 0
    completion_tokens: int = 0
    flying: dict[Future[Reply], Wanted] = field(default_factory=dict[Future[Reply], Wanted])
    stopped: BaseException | None = None

    def taught(self) -> Taught:
        """What came of it so far."""
        return Taught(
            self.added, self.accepted, self.skipped, self.budget.spent, self.prompt_tokens, self.completion_tokens
        )

    def give(self, missing: Sequence[Wanted], advance: Advance) -> None:
        """Ask for all of them. Raises what stopped it, once every call under way is paid and kept."""
        left = deque(missing)
        with ThreadPoolExecutor(self.settings.workers, thread_name_prefix="teacher") as pool:
            try:
                while left or self.flying:
                    self._start(pool, left)
                    if not self.flying:
                        break
                    self._keep_arrived(advance)
            except KeyboardInterrupt:
                while self.flying:  # they are paid for; a second Ctrl-C leaves them
                    self._keep_arrived(advance)
                raise
        if self.stopped is not None:
            raise self.stopped
        if left:
            raise BudgetReached(
                f"stopped after ${self.budget.spent:.4f}: one rationale more can cost "
                f"${self.budget.dearest or 0:.4f} and pass --max-cost {self.budget.limit:g}; "
                f"{len(left)} are missing; go on with: {self._again()}"
            )

    def _start(self, pool: ThreadPoolExecutor, left: deque[Wanted]) -> None:
        while (
            left
            and self.stopped is None
            and len(self.flying) < self.settings.workers
            and self.budget.allows(len(self.flying))
        ):
            wanted = left.popleft()
            self.flying[pool.submit(ask, self.lm, self.task, self.settings, wanted.question)] = wanted

    def _keep_arrived(self, advance: Advance) -> None:
        from dspy.utils.exceptions import LMError

        done, _ = wait(self.flying, return_when=FIRST_COMPLETED)
        for future in done:
            error = future.exception()
            if error is None:
                self._keep(self.flying[future], future.result())
            elif self.stopped is None:
                self.stopped = self._failed(error) if isinstance(error, LMError | ImportError) else error
            del self.flying[future]  # only now: an interrupted write is done again
            advance(1)

    def _keep(self, wanted: Wanted, reply: Reply) -> None:
        text = reply.text
        if text is not None:
            rationale = Rationale(
                wanted.question.key,
                wanted.sample,
                text,
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
                cost=reply.cost or 0.0,
                milliseconds=reply.milliseconds,
            )
            row = record(wanted.question_id, wanted.question, self.teacher.id, rationale)
            added = insert_ignoring(self.db, "rationales", [row])
            self.added += added
            self.accepted += added * cast(int, row["accepted"])
        self.skipped += text is None
        self.unreadable = 0 if text is not None else self.unreadable + 1
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        if reply.cost is not None:
            self.budget.pay(reply.cost)
        elif self.budget.limit is not None and self.stopped is None:
            self.stopped = BadConfig(
                f"the price of {self.lm.model} is not known, so --max-cost cannot be kept; run again without it"
            )
        if self.unreadable >= UNREADABLE and self.stopped is None:
            self.stopped = TeacherFailed(
                f"{self.lm.model} gave {UNREADABLE} answers in a row that hold no rationale; "
                f"try another with: kard teach {self.task.name} --model PROVIDER/MODEL"
            )

    def _failed(self, error: BaseException) -> TeacherFailed:
        # The first paragraph only: advice in the terms of a library follows, and providers answer with whole pages.
        said = str(getattr(error, "message", "") or error).strip().partition("\n\n")[0]
        message = shorten(said, 200, placeholder=" ...") or type(error).__name__
        failed = TeacherFailed(
            f"{self.lm.model} does not answer ({message}); {self.added} rationales were kept; "
            f"go on with: {self._again()}"
        )
        failed.__cause__ = error
        return failed

    def _again(self) -> str:
        return f"kard teach {self.task.name} --model {self.lm.model}"
