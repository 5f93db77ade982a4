"""Ask the teacher for the rationales that the store lacks (section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from sqlite_utils import Database

from kard.answers.parsing import letter_of
from kard.config import Teaching
from kard.db import insert_ignoring, now, rows, value, writing
from kard.errors import BadConfig, Missing
from kard.outgoing.patience import TIMEOUT, Voice
from kard.progress import SILENT, Progress
from kard.questions import QuestionSet
from kard.records import Passage, Question, Rationale
from kard.tasks import Task
from kard.teacher.calls import Reply, ask, no_price, teacher_info
from kard.teacher.records import rationale_row, store_teacher
from kard.teacher.requests import Budget, Requests, claiming
from kard.work.claims import Claims

if TYPE_CHECKING:
    import dspy

    from kard.knowledge.knowledge_base import KnowledgeBase


Find = Callable[[Question], Sequence[Passage]]
"""Returns what a teacher is to read for a question, best first."""


@dataclass(frozen=True, slots=True)
class TeachSummary:
    """What a run added, and what it cost."""

    added: int
    accepted: int  # of those added: the conclusion is the gold answer
    skipped: int  # samples whose reply was cut, refused, empty or unreadable
    cost: float  # US dollars; 0 where no price is known
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class MissingSample:
    """A sample that the store lacks."""

    question_id: int
    question: Question
    sample: int  # 0-based


def missing_samples(
    db: Database, task: Task, questions: QuestionSet, lm: dspy.LM, settings: Teaching, *, retry: bool = False
) -> list[MissingSample]:
    """Return the samples that this teacher has not given, all questions' first samples before second ones.

    Samples whose reply was cut, refused, empty or unreadable are among them only with `retry`. Only questions
    with a known answer count. Raises Missing if the split has none.
    """
    split = replace(questions, limit=None).read(db)
    if not any(question.answer for question in split.values()):
        raise Missing(
            f"no {questions.split} questions with answers for {task.name}; "
            f"load some with: kard load {task.name} FILE"
        )
    missing = rows(
        db,
        "internal/missing_samples",
        **questions.parameters,
        teacher=teacher_info(task, lm.model, settings, lm.model).id,
        samples=settings.samples,
        retry=retry,
    )
    # A question that another command has loaded since `split` was read is for the next run.
    here = [row for row in missing if row["question_id"] in split]
    return [MissingSample(row["question_id"], split[row["question_id"]], row["sample"]) for row in here]


def failed_row(missing: MissingSample, teacher_id: str, reply: Reply) -> dict[str, object]:
    """Return the row of a reply that is no rationale: what was written, and what it cost."""
    return {
        "question_id": missing.question_id,
        "teacher_id": teacher_id,
        "sample": missing.sample,
        "outcome": reply.outcome,
        "text": reply.written,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "cost": reply.cost or 0.0,
        "milliseconds": reply.milliseconds,
        "created": now(),
    }


def by_heart(_question: Question) -> Sequence[Passage]:
    """Return no passages."""
    return ()


def reading(kb: KnowledgeBase, k: int) -> Find:
    """Return what finds the `k` passages that a teacher reads: those of the question together with its answer."""
    return lambda question: [hit.passage for hit in kb.search(f"{question.text} {question.gold}", k)]


def expected_cost(db: Database, task: Task, lm: dspy.LM, settings: Teaching) -> float | None:
    """Return the mean price of this teacher's rationales in US dollars, None if none has a known price."""
    teacher = teacher_info(task, lm.model, settings, lm.model)
    prices = db.execute("select avg(cost) from rationales where teacher_id = ? and cost > 0", [teacher.id])
    return prices.fetchone()[0]


def unpriced(db: Database, task: Task, lm: dspy.LM, settings: Teaching, max_cost: float | None) -> BadConfig | None:
    """Return the error if `max_cost` could not be kept, as nobody knows a price, None if it can."""
    teacher = teacher_info(task, lm.model, settings, lm.model)
    return no_price(lm, max_cost, value(db, "internal/highest_price", teacher=teacher.id))


def teach(
    db: Database,
    task: Task,
    questions: QuestionSet,
    lm: dspy.LM,
    settings: Teaching,
    *,
    name: str,
    find: Find = by_heart,
    max_cost: float | None = None,
    retry: bool = False,
    progress: Progress = SILENT,
) -> TeachSummary:
    """Ask `lm` for every missing sample of the questions, and store each rationale as it arrives.

    `name` is what the store calls the teacher. `find` finds the passages that it reads (`with_passages`). `retry`
    asks again where a reply was cut, refused, empty or unreadable: such replies are kept in `failed_replies` and
    never train. `max_cost` limits this run, in US dollars: a call starts only if the budget covers it at the
    highest price seen so far. Raises Missing if there are no questions, BudgetReached if samples remain,
    TeacherFailed if the provider does not answer, BadConfig if there is a `max_cost` but no known price: before the
    first call, or after it where only a reply tells. What was paid for by then is kept, after Ctrl-C too; the next
    run goes on.
    """
    teacher = teacher_info(task, lm.model, settings, name)
    highest = value(db, "internal/highest_price", teacher=teacher.id)
    if error := unpriced(db, task, lm, settings, max_cost):
        raise error
    budget = Budget(max_cost, highest or None)  # 0 where no price is known
    # What fails from now on is done, whoever asked; with `retry` what has failed before is not.
    failed = db.execute("select coalesce(max(id), 0) from failed_replies").fetchone()[0] if retry else 0
    missing = missing_samples(db, task, questions, lm, settings, retry=retry)
    accepted = 0

    def store(missing: MissingSample, reply: Reply) -> int:
        nonlocal accepted
        if reply.text is None:
            insert_ignoring(db, "failed_replies", [failed_row(missing, teacher.id, reply)])
            return 0
        rationale = Rationale(
            missing.question.key,
            missing.sample,
            reply.text,
            conclusion=None if reply.letter is None else letter_of(reply.letter, missing.question.options) or "",
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            cost=reply.cost or 0.0,
            milliseconds=reply.milliseconds,
        )
        row = rationale_row(missing.question_id, missing.question, teacher.id, rationale)
        added = insert_ignoring(db, "rationales", [row])
        accepted += added * cast(int, row["accepted"])
        return added

    def stored(samples: Sequence[MissingSample]) -> set[str]:
        questions = [sample.question_id for sample in samples]
        found = rows(db, "internal/stored_samples", teacher=teacher.id, questions=questions, failed=failed)
        return {f"{row['question_id']} {row['sample']}" for row in found}

    requests = Requests[MissingSample](
        lm.model,
        ask=lambda m, patience: ask(lm, task, settings, m.question, patience, find(m.question)),
        store=store,
        budget=budget,
        workers=settings.workers,
        singular="rationale",
        plural="rationales",
        retries=lm.num_retries,
        timeout=lm.kwargs.get("timeout") or TIMEOUT,
        voice=Voice(progress.note),
    )
    if missing:
        with writing(db):
            store_teacher(db, teacher)
        with (
            Claims(db, f"rationale of {teacher.id}") as claims,
            progress.bar(f"teaching {questions.split}", len(missing)) as advance,
        ):
            requests.claim = claiming(claims, lambda sample: f"{sample.question_id} {sample.sample}", stored)
            requests.run(missing, advance)
    tokens = requests.prompt_tokens, requests.completion_tokens
    return TeachSummary(requests.added, accepted, requests.skipped, budget.spent, *tokens)
