"""QASC: elementary science with eight options; each answer takes two facts that must be combined.

A row of the published JSON lines:

    {"id": "K3T1", "question": {"stem": "What do beavers change when they build?",
      "choices": [{"text": "the tides", "label": "A"}, {"text": "the course of a stream", "label": "B"}, ...]},
     "answerKey": "B", "fact1": "A dam changes the course of a stream.", "fact2": "Beavers build dams.",
     "combinedfact": "Beavers change the course of a stream.", "formatted_question": "..."}

The hub's rows have the stem as `question` and `choices: {"text": [...], "label": [...]}`. The published test file
has neither answers nor facts. Both facts and `combinedfact`, what follows from them, are stored as the rationale of
a recorded teacher. Rows in the plain form {id, question, options, answer, facts, evidence, rationale} are read too.
"""

from __future__ import annotations

from kard.config import Retrieval, TaskSettings
from kard.files import Fields, Row
from kard.records import Question
from kard.tasks import Task

from ._common import STUDENTS, Answer, RetrieveThenAnswer, Teach, optional, plain, shot

GIVEN_WITH_AN_ANSWER = ("fact1", "fact2", "combinedfact")


class TeachTwoFacts(Teach):
    """Explain why the given answer to the question of elementary science is right.

    State two short facts, then in one sentence what follows from both together.
    End with one sentence that states the answer: "Therefore, the answer is (F) ...".
    """


class AnswerTwoFacts(Answer):
    """Combine two facts, from the passages where some are given, then choose one option."""


def parse(row: Row) -> Question | None:
    """Return the question of a row: published, from the hub or in the plain form. Raises ValueError."""
    if "options" in row:
        return plain(row)
    fact1, fact2, combined = (optional(row, name) for name in GIVEN_WITH_AN_ANSWER)
    answer = optional(row, "answerKey")
    if not answer and (fact1 or fact2 or combined):
        raise ValueError("a row with facts has no 'answerKey'")
    facts = [fact for fact in (fact1, fact2) if fact]
    rationale = _sentences(*facts, combined)
    return plain(Fields({**row, "answerKey": answer, "facts": facts, "rationale": rationale}))


def _sentences(*texts: str) -> str:
    """Return the texts as sentences, each with a capital letter in front and a stop at its end."""
    found = [text.strip() for text in texts if text.strip()]
    return " ".join(text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".") for text in found)


SHOTS = (
    shot(
        "What can be told from the rings of an oak?",
        ("its age", "its colour", "its depth", "its height", "its owner", "its scent", "its sound", "its weight"),
        "A",
        "A tree grows one ring of wood in each year. An oak is a tree. The rings of an oak tell how many years it "
        "has lived.",
    ),
    shot(
        "What can a cactus do without for a long time?",
        ("light", "sand", "heat", "wind", "air", "rain", "soil", "space"),
        "F",
        "A plant that stores water in its stem can live where rain is rare. A cactus stores water in its stem. A "
        "cactus can do without rain for a long time.",
    ),
    shot(
        "Closing the curtains in the morning keeps a room from what?",
        ("growing", "flooding", "warming", "shrinking", "rusting", "ageing", "echoing", "freezing"),
        "C",
        "Sunlight that is absorbed by the floor turns into heat. Closed curtains keep sunlight out. A room with "
        "closed curtains is kept from warming.",
    ),
)

TASK = Task(
    name="qasc",
    about="Elementary science, eight options, each from two facts that must be combined (QASC).",
    parse=parse,
    teach=TeachTwoFacts,
    answer=AnswerTwoFacts,
    program=RetrieveThenAnswer,
    shots=SHOTS,
    students=STUDENTS,
    # A query an option: nDCG@10 .517 instead of .471 by the question for 2,569 training questions
    # (benchmarks/query_forms.py). An answer takes two facts: with 1, 3, 5, 10 sentences `named` answers .290, .338,
    # .340, .292 of 500 training questions (docs/qasc.md).
    settings=TaskSettings(retrieval=Retrieval(query="options", k=5)),
)
