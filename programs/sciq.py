"""SciQ: questions of science examinations with four options, written from textbooks.

A row of the published JSON file, a list of such objects (the rows of the hub have the same fields):

    {"question": "What does a thermometer measure?", "distractor1": "pressure", "distractor2": "weight",
     "distractor3": "humidity", "correct_answer": "temperature",
     "support": "A thermometer measures temperature. Most of them hold a liquid that expands when it is heated."}

The options are put in an order that depends on a hash of the question alone. `support`, a paragraph of a textbook
and empty for some questions, is stored as the rationale of a recorded teacher. Rows in the plain form {id,
question, options, answer, facts, evidence, rationale} are read too.
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
    plain,
    required,
    shot,
)

PUBLISHED = ("correct_answer", "distractor1", "distractor2", "distractor3")


class TeachTextbook(Teach):
    """Explain why the given answer to the question of a science examination is right.

    State in one to three short sentences, as a textbook would, the facts that decide it.
    End with one sentence that states the answer: "Therefore, the answer is (B) ...".
    """


class AnswerTextbook(Answer):
    """State what a textbook says, from the passages where some are given, then choose one option."""


def parse(row: Row) -> Question | None:
    """Return the question of a row: published or in the plain form. Raises ValueError."""
    if "options" in row:
        return plain(row)
    text = required(row, "question")
    options = [required(row, name) for name in PUBLISHED]
    order = sorted(range(len(options)), key=lambda place: digest(text, str(place)))
    answer = LETTERS[order.index(0)]
    row = Fields({**row, "answer": answer, "rationale": optional(row, "support")})
    return plain(row, options=[options[place] for place in order])


SHOTS = (
    shot(
        "Which part of a plant takes up most of its water?",
        ("flowers", "leaves", "roots", "seeds"),
        "C",
        "Roots grow through the soil, and fine root hairs give them a large surface. Water enters a plant mostly "
        "through these hairs.",
    ),
    shot(
        "A substance that speeds up a reaction and is not used up by it is called what?",
        ("catalyst", "product", "reactant", "solvent"),
        "A",
        "A catalyst lowers the energy that a reaction needs to start. It comes out of the reaction unchanged, "
        "while reactants are used up and products are formed.",
    ),
    shot(
        "What force keeps the planets in their orbits around the sun?",
        ("friction", "gravity", "magnetism", "tension"),
        "B",
        "Any two masses attract each other by gravity. The sun's gravity bends the path of each planet into "
        "an orbit.",
    ),
)

TASK = Task(
    name="sciq",
    about="Science examinations, four options, each from a paragraph of a textbook (SciQ).",
    parse=parse,
    teach=TeachTextbook,
    answer=AnswerTextbook,
    program=RetrieveThenAnswer,
    shots=SHOTS,
    students=STUDENTS,
    # A query an option: nDCG@10 .727 instead of .655 by the question for 245 validation questions
    # (benchmarks/query_forms.py).
    settings=TaskSettings(retrieval=Retrieval(query="options")),
)
