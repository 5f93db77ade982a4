"""ARC: science questions of school examinations with three to five options, easy ones and challenging ones.

A row of the published JSON lines; some files label options 1, 2, 3, 4:

    {"id": "Town_2011_8", "question": {"stem": "Which of these carries blood away from the heart?",
      "choices": [{"text": "an artery", "label": "A"}, {"text": "a nerve", "label": "B"},
                  {"text": "a tendon", "label": "C"}]}, "answerKey": "A"}

The hub's rows have the stem as `question` and `choices: {"text": [...], "label": [...]}`. Rows in the plain form
{id, question, options, answer, facts, evidence, rationale} are read too.
"""

from __future__ import annotations

from kard.config import Retrieval, TaskSettings
from kard.tasks import Task

from ._common import STUDENTS, Answer, RetrieveThenAnswer, Teach, plain, shot


class TeachExam(Teach):
    """Explain why the given answer to the question of a science examination is right.

    State in two or three short sentences the facts and the step that lead from the question to the answer.
    End with one sentence that states the answer: "Therefore, the answer is (B) ...".
    """


class AnswerExam(Answer):
    """State the facts behind the question, from the passages where some are given, then choose one option."""


SHOTS = (
    shot(
        "A student wants to know whether salt makes ice melt faster. What should she keep the same in both cups?",
        ("the amount of ice", "the amount of salt", "the time that the ice takes"),
        "A",
        "In a fair test only the factor that is examined differs. That is the salt, and the time is what is "
        "measured. The amount of ice must be equal in both cups.",
    ),
    shot(
        "Why does the same side of the moon always face the earth?",
        (
            "The moon does not turn.",
            "The moon turns once in each orbit.",
            "The earth turns faster.",
            "Light bends.",
        ),
        "B",
        "The moon turns around its axis in the same time in which it goes around the earth. So it shows one side.",
    ),
)

TASK = Task(
    name="arc",
    about="Science examinations of schools, three to five options (ARC, easy and challenge).",
    parse=plain,
    teach=TeachExam,
    answer=AnswerExam,
    program=RetrieveThenAnswer,
    shots=SHOTS,
    students=STUDENTS,
    settings=TaskSettings(retrieval=Retrieval(query="options")),  # as for other science questions with options
)
