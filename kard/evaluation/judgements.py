"""What a person says of a passage for a question, or of a rationale: kept beside what the machines say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from kard.db import now, rows, writing
from kard.errors import BadInput

if TYPE_CHECKING:
    from sqlite_utils import Database

Word = Literal["good", "bad"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """One person's word on a passage (does it hold what the question needs?) or on a rationale (is it right?)."""

    id: int
    question_id: int
    key: str  # the question's
    passage_id: str | None
    rationale_id: int | None
    verdict: Word
    note: str
    author: str
    created: str


def judge(
    db: Database,
    question_id: int,
    verdict: Word,
    *,
    passage: str | None = None,
    rationale: int | None = None,
    note: str = "",
    author: str = "",
) -> bool:
    """Record a person's word on a passage or a rationale of a question; whether it replaced the same person's.

    `passage` is an id or the beginning of one. Raises BadInput for what was never found, or written, for the
    question.
    """
    if (passage is None) == (rationale is None):
        raise BadInput("judge one thing at a time: a passage or a rationale")
    if passage is not None:
        passage = _passage(db, question_id, passage)
        same = db.execute(
            "select id from judgements where question_id = ? and passage_id = ? and author = ?",
            [question_id, passage, author],
        ).fetchone()
    else:
        _check_rationale(db, question_id, cast(int, rationale))
        same = db.execute(
            "select id from judgements where rationale_id = ? and author = ?", [rationale, author]
        ).fetchone()
    row = {
        "question_id": question_id,
        "passage_id": passage,
        "rationale_id": rationale,
        "verdict": verdict,
        "note": note,
        "author": author,
        "created": now(),
    }
    with writing(db):
        if same:
            db.execute("delete from judgements where id = ?", [same[0]])
        db.table("judgements").insert(row)
    return same is not None


def judgements(
    db: Database, *, task: str | None = None, split: str | None = None, question_id: int | None = None
) -> list[Judgement]:
    """What people said, oldest first: of everything, or of a task, a split, a question."""
    names = Judgement.__slots__
    found = rows(db, "internal/judgements", task=task, split=split, question=question_id)
    return [Judgement(*(row[name] for name in names)) for row in found]  # type: ignore[arg-type]  # typed columns


def _passage(db: Database, question_id: int, wanted: str) -> str:
    """The id of the passage of the question that begins like this. Raises BadInput when none or several do."""
    found = [str(r["passage_id"]) for r in rows(db, "internal/judgeable_passages", question=question_id)]
    near = [key for key in found if key == wanted] or [key for key in found if wanted and key.startswith(wanted)]
    if len(near) == 1:
        return near[0]
    if near:
        raise BadInput(f"passage {wanted!r} could be {', '.join(near[:3])}; give more of its id")
    raise BadInput(
        f"passage {wanted!r} was never found for the question; see its passages with: kard explain id:{question_id}"
    )


def _check_rationale(db: Database, question_id: int, wanted: int) -> None:
    own = [
        row[0] for row in db.execute("select id from rationales where question_id = ? order by id", [question_id])
    ]
    if wanted not in own:
        there = f"its rationales are {', '.join(map(str, own[:8]))}" if own else "it has none"
        raise BadInput(f"no rationale {wanted} of that question; {there}")
