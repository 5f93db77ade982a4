"""OpenBookQA: elementary science with four options; each question rests on one fact of an open book.

A row of the published JSON lines:

    {"id": "9-412", "question": {"stem": "A kettle whistles when the water inside becomes",
      "choices": [{"text": "ice", "label": "A"}, {"text": "steam", "label": "B"},
                  {"text": "salt", "label": "C"}, {"text": "clay", "label": "D"}]}, "answerKey": "B"}

The hub's rows have `question_stem` and `choices: {"text": [...], "label": [...]}`; both may have the book's fact as
`fact1`. ARC's rows, with the stem as `question` and labels 1 to 4 here and there, and rows in the plain form {id,
question, options, answer, facts, evidence} are read too.
"""

from __future__ import annotations

from kard.config import Retrieval, TaskSettings
from kard.files import Fields, Row
from kard.records import Question
from kard.tasks import ENCODERS, Task

from ._common import STUDENTS, Answer, RetrieveThenAnswer, Teach, plain, several, shot


class TeachScience(Teach):
    """Explain why the given answer to the question of elementary science is right.

    State in two or three short sentences the general fact behind the question and how it leads to the answer.
    End with one sentence that states the answer: "Therefore, the answer is (B) ...".
    """


class AnswerScience(Answer):
    """Find the fact behind the question, in the passages where some are given, then choose one option."""


def parse(row: Row) -> Question | None:
    """Return the question of a row: published, from the hub or in the plain form. Raises ValueError."""
    return plain(Fields({**row, "facts": several(row, "fact1")}) if "fact1" in row else row)


SHOTS = (
    shot(
        "Which of these would make a puddle disappear sooner?",
        ("a cold night", "a fence", "a warm wind", "more rain"),
        "C",
        "Liquid water turns into vapour faster when it is warm and when moving air carries the vapour away. "
        "A warm wind does both to the puddle.",
    ),
    shot(
        "A beetle that looks like a dead leaf is most likely to",
        ("be overlooked by birds", "drink more water", "fly faster", "lay larger eggs"),
        "A",
        "An animal that looks like its surroundings is camouflaged. Predators such as birds hunt by sight and miss "
        "what they cannot tell from the ground.",
    ),
    shot(
        "The handle of a cooking pot is often made of wood because wood",
        ("attracts iron", "conducts heat poorly", "melts early", "reflects light"),
        "B",
        "Heat travels quickly through metals and slowly through insulators. Wood is an insulator, so that the "
        "handle stays cool enough to hold.",
    ),
)

TASK = Task(
    name="openbookqa",
    about="Elementary science, four options, each from one fact of an open book (OpenBookQA).",
    parse=parse,
    teach=TeachScience,
    answer=AnswerScience,
    program=RetrieveThenAnswer,
    shots=SHOTS,
    students=STUDENTS,
    encoders={**ENCODERS, "linkbert": "michiyasunaga/LinkBERT-base"},  # the built-in one, the paper's
    # A query an option finds more evidence in like data: nDCG@10 .727 instead of .655 by the question for 245
    # validation questions of SciQ, .517 instead of .471 for 2,569 training questions of QASC. All options in one
    # query give .664 and .431. In QASC a rationale gives .649, .605 with the question before it
    # (benchmarks/query_forms.py).
    settings=TaskSettings(retrieval=Retrieval(query="options")),
)
