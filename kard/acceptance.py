"""Which rationales train: the rule of the view `accepted_rationales`, and the verdicts that it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kard.config import READERS, Accept
from kard.db import rows
from kard.errors import BadConfig, Missing
from kard.questions import QuestionSet

if TYPE_CHECKING:
    from sqlite_utils import Database


@dataclass(frozen=True, slots=True)
class Acceptance:
    """How many rationales of some questions train under a rule."""

    rationales: int
    accepted: int
    unverified: int  # no reader has given the verdict that the rule asks for
    unexplained: int = 0  # answered questions without a rationale


def count_accepted(
    db: Database, questions: QuestionSet, accept: Accept, teacher_id: str | None = None
) -> Acceptance:
    """Count the rationales of the answered questions, of one teacher or of all."""
    (row,) = rows(db, "internal/count_accepted", **questions.parameters, accept=accept, teacher=teacher_id)
    return Acceptance(**row)


def require_verdicts(db: Database, questions: QuestionSet, accept: Accept, teacher_id: str | None = None) -> None:
    """Raise Missing, naming the next command, if the rule asks for readers' verdicts that are not there."""
    if accept not in READERS:
        return
    counts = count_accepted(db, questions, accept, teacher_id)
    if counts.unverified:
        raise Missing(missing_verdicts(questions.task, counts, questions.split or "train"))


def missing_verdicts(task: str, counts: Acceptance, split: str = "train") -> str:
    """Say how many verdicts are missing and what gives them."""
    named = task if split == "train" else f"{task} --split {split}"
    return (
        f"{counts.unverified:,} of {counts.rationales:,} rationales of {task} lack a reader's verdict; "
        f"get them with: kard verify {named} --base BASE, or with --model PROVIDER/MODEL"
    )


def only_teacher(task: str, teachers: Mapping[str, str]) -> str:
    """Return the id of the one teacher of these, named by id. Raises Missing for none, BadConfig for several."""
    if not teachers:
        raise Missing(
            f"no rationales for {task}; ask a teacher with: kard teach {task} --model PROVIDER/MODEL,"
            f" or load recorded ones with: kard load {task} --rationales FILE"
        )
    if len(names := sorted(set(teachers.values()))) > 1:
        raise BadConfig(f"rationales of {', '.join(names)}: choose whose with --teacher NAME")
    return next(iter(teachers))
