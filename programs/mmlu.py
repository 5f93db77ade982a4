"""MMLU and MMLU-Pro: examinations in many subjects, with four options or up to ten.

A row of the hub's MMLU, and one of its MMLU-Pro:

    {"question": "Which gas do plants take up in daylight?", "subject": "high_school_biology",
     "choices": ["argon", "carbon dioxide", "helium", "neon"], "answer": 1}
    {"question_id": 70, "question": "Which gas do plants take up in daylight?", "category": "biology",
     "options": ["argon", "carbon dioxide", "helium"], "answer": "B", "answer_index": 1,
     "cot_content": "A: Let's think step by step. Plants ... The answer is (B)."}

`cot_content` is stored as the rationale of a recorded teacher. Rows in the plain form {id, question, options,
answer, facts, evidence, rationale} are read too.
"""

from __future__ import annotations

from kard.config import Retrieval, TaskSettings
from kard.files import Fields, Row
from kard.records import LETTERS, Question, digest
from kard.tasks import Task

from ._common import (
    STUDENTS,
    Answer,
    RetrieveThenAnswer,
    Teach,
    optional,
    options_of,
    plain,
    required,
    shot,
    written,
)


class TeachSubject(Teach):
    """Explain why the given answer to the question of an examination is right.

    State in two to four short sentences what the subject teaches and how it leads to the answer.
    End with one sentence that states the answer: "Therefore, the answer is (B) ...".
    """


class AnswerSubject(Answer):
    """State what the subject teaches, from the passages where some are given, then choose one option."""


def parse(row: Row) -> Question | None:
    """Return the question of a row: of MMLU, of MMLU-Pro or in the plain form. Raises ValueError."""
    changed = Fields(row)
    if isinstance(row.get("answer"), int) and not isinstance(row["answer"], bool):  # a place, counted from 0
        place, count = int(str(row["answer"])), len(options_of(row))
        if not 0 <= place < count:
            raise ValueError(f"answer {place} is not one of 0 to {count - 1}")
        changed["answer"] = LETTERS[place]
    if key := written(row.get("question_id"), "question_id"):
        changed["id"] = key
    elif "subject" in row and "id" not in row:  # two subjects have equal questions
        changed["id"] = digest(optional(row, "subject"), required(row, "question"), *options_of(row).values())
    if "cot_content" in row:
        changed["rationale"] = optional(row, "cot_content").removeprefix("A: ")
    return plain(changed)


SHOTS = (
    shot(
        "A price ceiling below the market price of bread leads to which of these?",
        ("a surplus", "a shortage", "a higher price", "no change"),
        "B",
        "At a price below that of the market, buyers want more bread than bakers offer. The rest is a shortage.",
    ),
    shot(
        "Which quantity is conserved when two balls collide and stick together?",
        ("kinetic energy", "speed", "momentum", "height"),
        "C",
        "No force from outside acts during the collision, so the momentum stays. Some energy becomes heat.",
    ),
)

TASK = Task(
    name="mmlu",
    about="Examinations in many subjects, four options or up to ten (MMLU, MMLU-Pro).",
    parse=parse,
    teach=TeachSubject,
    answer=AnswerSubject,
    program=RetrieveThenAnswer,
    shots=SHOTS,
    students=STUDENTS,
    settings=TaskSettings(retrieval=Retrieval(query="options")),  # as for other questions with options
)
