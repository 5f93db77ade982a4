"""MedMCQA: entrance examinations of Indian medical schools, four options, with explanations.

A row of the hub:

    {"id": "e9ad", "question": "Which vitamin is stored in the liver?", "opa": "B1", "opb": "B12", "opc": "C",
     "opd": "B6", "cop": 1, "choice_type": "single", "exp": "Ans. is 'b'. The liver stores ...",
     "subject_name": "Biochemistry", "topic_name": null}

`cop` counts from 0 there, and is -1 or absent where the answer is kept secret. The original files count from 1, as
their first 4 tells: rename the field to `cop_from_1` in those. `exp` is stored as the rationale of a recorded
teacher, and subjects are reported apart. Rows in the plain form {id, question, options, answer, facts, evidence,
rationale} are read too.
"""

from __future__ import annotations

import re
from dataclasses import replace

from kard.config import Retrieval, TaskSettings
from kard.errors import BadInput
from kard.files import Fields, Row
from kard.records import LETTERS, Question
from kard.tasks import Task

from ._common import (
    MEDICAL_ENCODERS,
    STUDENTS,
    Answer,
    RetrieveThenAnswer,
    Teach,
    optional,
    plain,
    required,
    shot,
    written,
)

COLUMNS = ("opa", "opb", "opc", "opd")
CLAIM = re.compile(r"ans(?:wer)?\b\W{0,9}(?:is\b)?\W{0,9}([a-d])(?:['\")]+|(?=[.:;-]|\s*$|\s+i\.e))\W*", re.I)


class TeachMedicine(Teach):
    """Explain why the given answer to the medical question is right.

    State in two to four short sentences the findings, mechanisms or guidelines that decide it.
    End with one sentence that states the answer: "Therefore, the answer is (B) ...".
    """


class AnswerMedicine(Answer):
    """State the medical facts that decide, from the passages where some are given, then choose one option."""


def parse(row: Row) -> Question | None:
    """Return the question of a row, published or in the plain form. Raises ValueError."""
    if not any(name in row for name in COLUMNS):
        return plain(row)
    counted = "cop_from_1" if "cop_from_1" in row else "cop"
    place = written(row.get(counted), counted).removesuffix(".0")  # as pandas writes it where some are missing
    if place == "4" and counted == "cop":  # not to be left out with --skip-bad: the others would be read wrongly
        raise BadInput("field 'cop' is 4, so this file counts options from 1; rename the field to cop_from_1")
    letters = dict(zip("0123" if counted == "cop" else "1234", LETTERS, strict=False))
    if place not in ("", "-1", *letters):
        raise ValueError(f"field {counted!r} is {place}, not one of {', '.join(letters)}")
    options, because = [required(row, name) for name in COLUMNS], optional(row, "exp")
    if said := CLAIM.match(because):  # "Ans. is 'b' i.e., ...", which is then read like any other conclusion
        because = f"The answer is ({said[1].upper()}). {because[said.end() :]}"
    changed = {"options": options, "answer": letters.get(place), "rationale": because}
    return replace(plain(Fields({**row, **changed})), kind=optional(row, "subject_name"))


SHOTS = (
    shot(
        "Which nerve is at risk when the shaft of the humerus breaks?",
        ("ulnar nerve", "radial nerve", "median nerve", "axillary nerve"),
        "B",
        "The radial nerve lies in the spiral groove on the back of the shaft. Sharp ends of bone there can cut it.",
    ),
    shot("Which vitamin lasts years in the body?", ("B1", "C", "B12", "B6"), "C", "The liver stores much B12."),
)

TASK = Task(
    name="medmcqa",
    about="Entrance examinations of medical schools, four options, by subject (MedMCQA).",
    parse=parse,
    teach=TeachMedicine,
    answer=AnswerMedicine,
    program=RetrieveThenAnswer,
    shots=SHOTS,
    students=STUDENTS,
    encoders=MEDICAL_ENCODERS,
    settings=TaskSettings(retrieval=Retrieval(query="options")),  # as for other questions with options
)
