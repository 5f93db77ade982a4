"""PubMedQA: questions that the title of a medical paper asks, answered yes, no or maybe.

A row of the hub:

    {"pubid": 1571, "question": "Does walking help the sleep of nurses on night duty?", "final_decision": "yes",
     "context": {"contexts": ["Night duty disturbs sleep. ...", "..."], "labels": ["BACKGROUND", "RESULTS"]},
     "long_answer": "Nurses who walked in the evening slept longer."}

The published JSON has each row under its `pubid`, with `QUESTION`, `CONTEXTS` and `LONG_ANSWER`. The long answer is
stored as the rationale of a recorded teacher; `pubid` is the document that holds the answer, where a knowledge base
has abstracts under these ids. Rows in the plain form {id, question, answer, ...} are read too.
"""

from __future__ import annotations

from kard.files import Row
from kard.records import Question
from kard.tasks import Task

from ._common import (
    MEDICAL_ENCODERS,
    STUDENTS,
    Answer,
    RetrieveThenAnswer,
    Teach,
    by_label_or_text,
    optional,
    plain,
    required,
    shot,
    written,
)

DECISIONS = ("yes", "no", "maybe")


class TeachPaper(Teach):
    """Explain why the given answer to the question of a medical paper is right.

    State in one to three sentences what was found, in whom, and how sure it is.
    End with one sentence that states the answer: "Therefore, the answer is (A) yes".
    """


class AnswerPaper(Answer):
    """State what was found, from the passages where some are given, then answer yes, no or maybe."""


def parse(row: Row) -> Question | None:
    """Return the question of a row: published, from the hub or in the plain form. Raises ValueError."""
    if "final_decision" not in row:
        return plain(row, DECISIONS, by_label_or_text)
    key = written(row.get("pubid", row.get("id")), "pubid")
    upper = "QUESTION" in row and "question" not in row
    changed = {
        "id": key,
        "question": required(row, "QUESTION" if upper else "question"),
        "answer": required(row, "final_decision").lower(),
        "rationale": optional(row, "LONG_ANSWER" if upper else "long_answer"),
        "evidence": [key] if key else [],
        "split": optional(row, "split"),
    }
    return plain(changed, DECISIONS, by_label_or_text)


SHOTS = (
    shot(
        "Is a longer hospital stay after knee surgery safer for the elderly?",
        DECISIONS,
        "B",
        "Of two thousand patients above seventy, those who went home after three days had as few complications as "
        "those who stayed a week.",
    ),
    shot(
        "Does tea in the evening disturb sleep?",
        DECISIONS,
        "C",
        "Half of the forty persons slept less after tea and half did not. The study was too small to decide.",
    ),
)

TASK = Task(
    name="pubmedqa",
    about="Questions of medical papers, answered yes, no or maybe (PubMedQA).",
    parse=parse,
    teach=TeachPaper,
    answer=AnswerPaper,
    program=RetrieveThenAnswer,
    shots=SHOTS,
    students=STUDENTS,
    encoders=MEDICAL_ENCODERS,
)
