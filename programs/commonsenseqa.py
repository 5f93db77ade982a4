"""CommonsenseQA: everyday knowledge with five options, of which several fit a part of the question.

A row of the published JSON lines; the test file has no `answerKey`:

    {"id": "7c1e", "answerKey": "C", "question": {"question_concept": "umbrella",
      "stem": "Where would you leave a wet umbrella?", "choices": [{"label": "A", "text": "bookshelf"},
        {"label": "B", "text": "bed"}, {"label": "C", "text": "hallway"}, {"label": "D", "text": "rain"},
        {"label": "E", "text": "shop"}]}}

The hub's rows have the stem as `question` and `choices: {"label": [...], "text": [...]}`. Rows in the plain form
{id, question, options, answer, facts, evidence, rationale} are read too.
"""

from __future__ import annotations

from kard.config import Retrieval, TaskSettings
from kard.files import Fields, Row
from kard.records import Question
from kard.tasks import Task

from ._common import STUDENTS, Answer, RetrieveThenAnswer, Teach, plain, shot


class TeachEveryday(Teach):
    """Explain why the given answer to the question of everyday life is right.

    State in two or three short sentences what people know about the thing, and why it speaks for this option.
    End with one sentence that states the answer: "Therefore, the answer is (B) ...".
    """


class AnswerEveryday(Answer):
    """State what people know about the thing, from the passages where some are given, then choose one option."""


def parse(row: Row) -> Question | None:
    """Return the question of a row: published, from the hub or in the plain form. Raises ValueError."""
    return plain(row if "answer" in row or "answerKey" in row else Fields({**row, "answerKey": ""}))


SHOTS = (
    shot(
        "What do people carry to read a letter in a dark cellar?",
        ("a stamp", "a torch", "an envelope", "a pen", "a box"),
        "B",
        "One cannot read without light, and a cellar has no daylight. A torch gives light and can be carried.",
    ),
    shot(
        "What is most likely to follow if nobody waters a plant for weeks?",
        ("It blooms.", "It sinks.", "It grows.", "It wilts.", "It sings."),
        "D",
        "Plants lose water through their leaves and take up new water from the soil. Without it they wilt.",
    ),
)

TASK = Task(
    name="commonsenseqa",
    about="Everyday knowledge, five options (CommonsenseQA).",
    parse=parse,
    teach=TeachEveryday,
    answer=AnswerEveryday,
    program=RetrieveThenAnswer,
    shots=SHOTS,
    students=STUDENTS,
    settings=TaskSettings(retrieval=Retrieval(query="options")),  # as for other questions with options
)
