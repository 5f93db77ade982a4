"""A second opinion on rationales: another model reads one and says which option it leads to (section 3.1).

The closing that says the answer is left out, so that what is judged are the reasons.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, cast

from kard.answers.parsing import conclusion, without_closing
from kard.db import insert_ignoring, now, rows, writing
from kard.errors import Missing
from kard.progress import SILENT, Progress
from kard.records import LETTERS, canonical, digest
from kard.teacher.budget import Budget
from kard.teacher.calls import Reply, call
from kard.teacher.requests import Requests

if TYPE_CHECKING:
    import dspy
    from sqlite_utils import Database

INSTRUCTIONS = "Say which option the explanation leads to. Judge by the explanation alone, not by what you know."
LIMITS = {"temperature": 0.0, "max_tokens": 256}


@dataclass(frozen=True, slots=True)
class Unread:
    """A rationale that a verifier has not read."""

    rationale_id: int
    rationale: str
    question: str
    options: tuple[str, ...]
    gold: str  # letter


@dataclass(frozen=True, slots=True)
class Verified:
    """What a run added, and what it cost."""

    added: int
    agreed: int  # of those added: the verifier read the gold answer from the rationale
    cost: float  # US dollars; 0 where no price is known
    prompt_tokens: int
    completion_tokens: int


def verifier_id(model: str) -> str:
    """Who judges when `model` is asked in this way."""
    return digest(model, INSTRUCTIONS, canonical(LIMITS))


def unread(
    db: Database, task: str, model: str, *, split: str, teacher: str | None = None, limit: int | None = None
) -> list[Unread]:
    """The rationales that this model has not read, of the split's first `limit` questions with a known answer."""
    found = rows(
        db,
        "missing_verifications",
        task=task,
        split=split,
        verifier=verifier_id(model),
        teacher=teacher,
        limit=-1 if limit is None else limit,
    )
    return [
        Unread(
            cast(int, row["rationale_id"]),
            str(row["rationale"]),
            str(row["question"]),
            tuple(json.loads(str(row["options"]))),
            str(row["answer"]),
        )
        for row in found
    ]


def verify(
    db: Database,
    task: str,
    lm: dspy.LM,
    *,
    name: str,
    split: str,
    teacher: str | None = None,
    limit: int | None = None,
    workers: int = 8,
    max_cost: float | None = None,
    progress: Progress = SILENT,
) -> Verified:
    """Let `lm` read every rationale that it has not read; each opinion is kept as it arrives.

    Stops, and what it raises, are those of `kard.teacher.teach.teach`; Missing when there is no rationale.
    """
    there = "select 1 from rationales r join questions q on q.id = r.question_id where q.task = ? and q.split = ?"
    if not db.execute(there, [task, split]).fetchone():
        raise Missing(f"no rationales of {task}/{split}; ask a teacher with: kard teach {task} --split {split}")
    missing = unread(db, task, lm.model, split=split, teacher=teacher, limit=limit)
    verifier, agreed = verifier_id(lm.model), 0

    def keep(one: Unread, reply: Reply) -> int:
        nonlocal agreed
        answer = conclusion(f"The answer is {reply.text}", one.options) if reply.text else None
        row = {
            "rationale_id": one.rationale_id,
            "verifier_id": verifier,
            "answer": answer,
            "agrees": int(answer == one.gold),
            "reply": reply.text or "",
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "cost": reply.cost or 0.0,
            "milliseconds": reply.milliseconds,
            "created": now(),
        }
        added = insert_ignoring(db, "verifications", [row])
        agreed += added * int(answer == one.gold)
        return added

    dearest = db.execute("select max(cost) from verifications where verifier_id = ? and cost > 0", [verifier])
    requests = Requests[Unread](
        lm.model,
        ask=lambda one: _ask(lm, one),
        keep=keep,
        budget=Budget(max_cost, cast("float | None", dearest.fetchone()[0])),
        workers=workers,
        one="opinion",
        many="opinions",
        again=f"kard verify {task} --model {lm.model}",
    )
    if missing:
        with writing(db):
            _keep_verifier(db, verifier, name, lm.model)
        with progress.bar(f"verifying {split}", len(missing)) as advance:
            requests.run(missing, advance)
    tokens = requests.prompt_tokens, requests.completion_tokens
    return Verified(requests.added, agreed, requests.budget.spent, *tokens)


def _ask(lm: dspy.LM, one: Unread) -> Reply:
    lettered = (f"({letter}) {option}" for letter, option in zip(LETTERS, one.options, strict=False))
    inputs = {
        "question": one.question,
        "options": "\n".join(lettered),
        "explanation": without_closing(one.rationale),
    }
    return call(lm, _signature(), inputs, "answer", LIMITS)


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


def _keep_verifier(db: Database, key: str, name: str, model: str) -> None:
    row = {
        "id": key,
        "name": name,
        "model": model,
        "instructions": INSTRUCTIONS,
        "sampling": canonical(LIMITS),
        "created": now(),
    }
    insert_ignoring(db, "verifiers", [row])
