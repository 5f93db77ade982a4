"""Multiple choice of your own: a CSV, TSV, JSON or JSON lines file with 2 to 26 options a question.

As CSV, with one column an option (A, B, ... or option_a, option_b, ...; trailing ones may be empty):

    id,split,question,A,B,C,answer,explanation
    h1,train,Which gas gives divers the bends?,helium,nitrogen,neon,B,Nitrogen dissolves under pressure ...
    h2,test,Is seawater denser than fresh water?,yes,no,,A,Dissolved salt makes it heavier.

As JSON lines, with a list of options (a CSV may hold the same list as JSON in a column `options`):

    {"question": "Which of these floats on water?", "options": ["iron", "cork", "glass"], "answer": "cork"}

`answer` is an option's letter or its exact text; leave it empty if it is unknown. A question without options is a
yes/no question. Optional columns: `id` (otherwise a hash of question and options), `rationale` or `explanation`
(stored as the rationale of a recorded teacher), `facts`, and `evidence` (ids of documents in your knowledge base).
`split` is train, dev or test. Without that column `kard load --split` decides. Without either, a hash of the id
puts about 80% into train and 20% into test, the same ones on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from string import ascii_uppercase

from kard.config import Retrieval, TaskSettings
from kard.files import Row
from kard.records import LETTERS, Question, digest
from kard.tasks import Task

from ._common import (
    STUDENTS,
    YES_NO,
    Answer,
    RetrieveThenAnswer,
    Teach,
    by_letter_or_text,
    listed_options,
    optional,
    plain,
    shot,
)

TEST_SHARE = 20  # percent of the questions without a split


class TeachChoice(Teach):
    """Explain why the given answer is right.

    State in two to four short sentences the facts that decide it and how they lead to the answer.
    End with one sentence that states the answer: "Therefore, the answer is (A) ...".
    """


class AnswerChoice(Answer):
    """Reason in a few short sentences, from the passages where some are given, then choose one option."""


def parse(row: Row) -> Question | None:
    """Return the question of a row. Raises ValueError."""
    if isinstance(row.get("answer"), bool):  # JSON lines of yes/no questions
        row = {**row, "answer": YES_NO[0] if row["answer"] else YES_NO[1]}
    question = plain(row, options=_options(row), read=_read)
    return question if question.split else replace(question, split=_split(question.key))


def _split(key: str) -> str:
    """Return the split of a question that names none, by a hash of its key."""
    return "test" if int(digest(key, length=8), 16) % 100 < TEST_SHARE else "train"


def _read(answer: str, options: Sequence[str]) -> str:
    """Return the letter of an answer. The case of yes and no does not matter."""
    folded = answer.lower() if tuple(options) == YES_NO and answer.lower() in YES_NO else answer
    return by_letter_or_text(folded, options)


def _options(row: Row) -> tuple[str, ...]:
    """Return the options from a list or from one column each; yes and no where there are none."""
    if row.get("options") not in (None, ""):
        return listed_options(row)
    for pattern in ("{0}", "{1}", "option_{1}"):
        names = [pattern.format(letter, letter.lower()) for letter in ascii_uppercase]
        cells = [optional(row, name) for name in names]
        if any(cells):
            return _without_gaps(cells)
    return YES_NO


def _without_gaps(cells: Sequence[str]) -> tuple[str, ...]:
    """Return the cells up to the last one with text. Raises ValueError for an empty one before it."""
    last = max(i for i, cell in enumerate(cells) if cell)
    for name, cell in zip(LETTERS, cells[:last], strict=False):
        if not cell:
            raise ValueError(f"option {name} is empty but option {LETTERS[last]} is not")
    return tuple(cells[: last + 1])


SHOTS = (
    shot(
        "Which instrument measures the pressure of the air?",
        ("barometer", "hygrometer", "seismograph"),
        "A",
        "A barometer measures atmospheric pressure. A hygrometer measures moisture, and a seismograph the shaking "
        "of the ground.",
    ),
    shot(
        "May a signed paper be contested in court?",
        YES_NO,
        "A",
        "A signature shows consent to what a paper says. Consent that rests on error, threat or deceit can be "
        "contested, and a court decides about it.",
    ),
)

TASK = Task(
    name="choice",
    about="Multiple choice of your own: CSV or JSON lines, 2 to 26 options.",
    parse=parse,
    teach=TeachChoice,
    answer=AnswerChoice,
    program=RetrieveThenAnswer,
    shots=SHOTS,
    students=STUDENTS,
    # A query an option: nDCG@10 +.072 in SciQ and +.046 in QASC (see openbookqa.py). Yes and no find nothing of
    # their own and cost .017 in StrategyQA: for such questions alone, set retrieval.query=question.
    settings=TaskSettings(retrieval=Retrieval(query="options")),
)
