"""A second opinion on rationales: another model reads one and says which option it leads to (section 3.1).

The rationale is shown without the sentences that say the answer, so that its reasons are judged: without its last
sentence alone, 8,326 of 14,989 recorded rationales still said it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from kard.answers.parsing import letter_of, without_conclusions
from kard.config import require
from kard.db import insert_ignoring, now, rows, writing
from kard.errors import BadConfig, Missing
from kard.outgoing.patience import TIMEOUT, Patience, Voice
from kard.progress import SILENT, Progress
from kard.questions import QuestionSet
from kard.records import canonical, digest
from kard.teacher.calls import Reply, call, lettered, no_price
from kard.teacher.records import TeacherInfo, store_teacher
from kard.teacher.requests import Budget, Requests, claiming
from kard.work.claims import Claims

if TYPE_CHECKING:
    import dspy
    from sqlite_utils import Database

INSTRUCTIONS = "Say which option the explanation leads to. Judge by the explanation alone, not by what you know."
LIMITS = {"temperature": 0.0, "max_tokens": 256}


@dataclass(frozen=True, slots=True)
class UnverifiedRationale:
    """A rationale that a verifier has not read."""

    rationale_id: int
    rationale: str
    question: str
    options: tuple[str, ...]
    gold: str  # letter


@dataclass(frozen=True, slots=True)
class VerifySummary:
    """What a run added, and what it cost."""

    added: int
    agreed: int  # of those added: the verifier read the gold answer from the rationale
    cost: float  # US dollars; 0 where no price is known
    prompt_tokens: int
    completion_tokens: int


def verifier_info(model: str, name: str) -> TeacherInfo:
    """Return the verifier that is this model with this module's instructions."""
    sampling = canonical(LIMITS)
    return TeacherInfo(digest(model, INSTRUCTIONS, sampling), name, model, INSTRUCTIONS, sampling)


def unverified(
    db: Database, questions: QuestionSet, verifier: TeacherInfo, teacher: str | None = None
) -> list[UnverifiedRationale]:
    """Return the rationales of the questions, or of one teacher, that this verifier has not read.

    Only questions with a known answer count. Raises BadConfig for one without options: a verifier names an option.
    """
    missing = rows(
        db,
        "internal/missing_verifications",
        **questions.parameters,
        verifier=verifier.id,
        teacher=teacher,
    )
    without = sum(row["options"] == "[]" for row in missing)
    require(not without, f"a verifier names the option that a rationale leads to; {without:,} questions have none")
    return [
        UnverifiedRationale(
            row["rationale_id"], row["rationale"], row["question"], tuple(json.loads(row["options"])), row["answer"]
        )
        for row in missing
    ]


def verify(
    db: Database,
    questions: QuestionSet,
    lm: dspy.LM,
    *,
    name: str,
    teacher: str | None = None,
    workers: int = 8,
    max_cost: float | None = None,
    progress: Progress = SILENT,
) -> VerifySummary:
    """Let `lm` read every rationale that it has not read, and store each opinion as it arrives.

    `name` is what the store calls the verifier. Raises Missing if the questions have no rationale, else what
    `kard.teacher.teach.teach` raises; what was paid for by then is kept.
    """
    split = questions.split
    require_rationales(db, questions)
    verifier = verifier_info(lm.model, name)
    highest = _highest_price(db, verifier)
    if error := unpriced(db, lm, max_cost):
        raise error
    budget = Budget(max_cost, highest or None)  # 0 where no price is known
    missing = unverified(db, questions, verifier, teacher)
    agreed = 0

    def store(rationale: UnverifiedRationale, reply: Reply) -> int:
        nonlocal agreed
        answer = letter_of(reply.text or "", rationale.options)
        added = store_opinion(db, rationale, verifier.id, answer, reply)
        agreed += added * (answer == rationale.gold)
        return added

    def stored(rationales: Sequence[UnverifiedRationale]) -> set[str]:
        ids = [rationale.rationale_id for rationale in rationales]
        found = rows(db, "internal/stored_opinions", verifier=verifier.id, rationales=ids)
        return {str(row["rationale_id"]) for row in found}

    requests = Requests[UnverifiedRationale](
        lm.model,
        ask=lambda rationale, patience: _ask(lm, rationale, patience),
        store=store,
        budget=budget,
        workers=workers,
        singular="opinion",
        plural="opinions",
        retries=lm.num_retries,
        timeout=lm.kwargs.get("timeout") or TIMEOUT,
        voice=Voice(progress.note),
    )
    if missing:
        with writing(db):
            store_teacher(db, verifier, "verifiers")
        with (
            Claims(db, f"opinion of {verifier.id}") as claims,
            progress.bar(f"verifying {split}", len(missing)) as advance,
        ):
            requests.claim = claiming(claims, lambda rationale: str(rationale.rationale_id), stored)
            requests.run(missing, advance)
    tokens = requests.prompt_tokens, requests.completion_tokens
    return VerifySummary(requests.added, agreed, budget.spent, *tokens)


def unpriced(db: Database, lm: dspy.LM, max_cost: float | None) -> BadConfig | None:
    """Return the error if `max_cost` could not be kept, as nobody knows a price, None if it can."""
    return no_price(lm, max_cost, _highest_price(db, verifier_info(lm.model, lm.model)))


def _highest_price(db: Database, verifier: TeacherInfo) -> float | None:
    prices = db.execute("select max(cost) from verifications where verifier_id = ?", [verifier.id])
    return prices.fetchone()[0]


def require_rationales(db: Database, questions: QuestionSet) -> None:
    """Raise Missing if the questions' split has no rationale."""
    task, split = questions.task, questions.split
    of_split = "question_id in (select id from questions where task = ? and split = ?)"
    if not db.execute(f"select 1 from rationales where {of_split}", [task, split]).fetchone():
        raise Missing(f"no rationales of {task}/{split}; ask a teacher with: kard teach {task} --split {split}")


def store_opinion(
    db: Database, rationale: UnverifiedRationale, verifier_id: str, answer: str | None, reply: Reply
) -> int:
    """Add the letter that a verifier read from a rationale; return 1, or 0 if its opinion was there."""
    row = {
        "rationale_id": rationale.rationale_id,
        "verifier_id": verifier_id,
        "answer": answer,
        "agrees": int(answer == rationale.gold),
        "reply": reply.text or reply.written,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "cost": reply.cost or 0.0,
        "milliseconds": reply.milliseconds,
        "created": now(),
    }
    return insert_ignoring(db, "verifications", [row])


def _ask(lm: dspy.LM, rationale: UnverifiedRationale, patience: Patience) -> Reply:
    inputs = {
        "question": rationale.question,
        "options": lettered(rationale.options),
        "explanation": without_conclusions(rationale.rationale, rationale.options),
    }
    return call(lm, _signature(), inputs, "answer", LIMITS, patience=patience)


@cache
def _signature() -> type[dspy.Signature]:
    import dspy

    class Verify(dspy.Signature):
        __doc__ = INSTRUCTIONS

        question: str = dspy.InputField()
        options: str = dspy.InputField(desc="one a line, each with its letter: (A) ...")
        explanation: str = dspy.InputField()
        answer: str = dspy.OutputField(desc="the letter of one option")

    return Verify
