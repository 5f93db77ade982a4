"""Teachers and their rationales as rows of the store."""

from __future__ import annotations

from dataclasses import dataclass

from sqlite_utils import Database

from kard.answers.parsing import conclusion
from kard.db import insert_ignoring, now
from kard.records import Question, Rationale, canonical, digest


@dataclass(frozen=True, slots=True)
class TeacherInfo:
    """Who wrote rationales: the row of `teachers`, but for the time. `sampling` is canonical JSON."""

    id: str
    name: str
    model: str
    instructions: str
    sampling: str


def recorded(name: str, answer_given: bool | None = None) -> TeacherInfo:
    """A teacher known by its rationales alone. `answer_given` tells whether it saw the gold answer, if known."""
    sampling = {} if answer_given is None else {"answer_given": answer_given}
    return TeacherInfo(digest("recorded", name), name, name, "", canonical(sampling))


def keep_teacher(db: Database, teacher: TeacherInfo) -> None:
    """Record the teacher, unless it is there."""
    insert_ignoring(
        db,
        "teachers",
        [
            {
                "id": teacher.id,
                "name": teacher.name,
                "model": teacher.model,
                "instructions": teacher.instructions,
                "sampling": teacher.sampling,
                "created": now(),
            }
        ],
    )


def record(question_id: int, question: Question, teacher_id: str, rationale: Rationale) -> dict[str, object]:
    """The row of a rationale. What its text concludes on counts; where that is nothing, what came with it.

    Accepted when the conclusion is the gold answer (section 3.1); never where the gold answer is not known.
    """
    letter = conclusion(rationale.text, question.options) or rationale.conclusion
    return {
        "question_id": question_id,
        "teacher_id": teacher_id,
        "sample": rationale.sample,
        "text": rationale.text,
        "conclusion": letter,
        "accepted": int(letter is not None and letter == question.answer),
        "prompt_tokens": rationale.prompt_tokens,
        "completion_tokens": rationale.completion_tokens,
        "cost": rationale.cost,
        "milliseconds": rationale.milliseconds,
        "created": now(),
    }
