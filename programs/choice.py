"""Multiple choice of your own: a CSV, TSV, JSON or JSON lines file with 2 to 26 options a question.

As CSV, with one column an option (A, B, ... or option_a, option_b, ...; trailing ones may be empty):

    id,split,question,A,B,C,answer,explanation
    h1,train,Which gas gives divers the bends?,helium,nitrogen,neon,B,Nitrogen dissolves under pressure ...
    h2,test,Is seawater denser than fresh water?,yes,no,,A,Dissolved salt makes it heavier.

As JSON lines, with a list of options (a CSV may hold the same list as JSON in a column `options`):

    {"question": "Which of these floats on water?", "options": ["iron", "cork", "glass"], "answer": "cork"}

The published rows of ARC, OpenBookQA and MedQA are read too: `choices` with texts and labels (A, B, ... or 1, 2,
...), the answer's label as `answerKey` or `answer_idx`; and the hub's parquet files.

`answer` is an option's letter or its exact text; leave it empty if it is unknown. No two options may be alike. A
question without options is a yes/no question, and its answer may be True or False; where there are columns for
options, it is one only if the answer says so. Optional columns: `id` (otherwise a hash of question and options),
`rationale` or `explanation` (stored as the rationale of a recorded teacher), `facts`, and `evidence` (ids of
documents in your knowledge base). The case of a column's name is ignored where that is clear. `split` is train,
dev or test. Without that column `kard load --split` decides. Without either, a hash of the id puts about 80% into
train and 20% into test, the same ones on every machine.

Rationales may also come in files of their own, for `kard load choice --rationales FILE`: `question_id` is the
question's id, `sample` numbers a model's rationales of one question from 0, and `model` names who wrote them.

    {"question_id": "h1", "sample": 0, "rationale": "Nitrogen ... the answer is (B).", "model": "me"}
"""

from __future__ import annotations

from collections.abc import Mapping

from kard.config import Retrieval, TaskSettings
from kard.files import Fields, Row
from kard.records import LETTERS, Question
from kard.tasks import Task

from ._common import (
    OPTIONS,
    STUDENTS,
    TRUTH,
    YES_NO,
    Answer,
    RetrieveThenAnswer,
    Teach,
    by_label_or_text,
    plain,
    shot,
    with_split,
    without_gaps,
    written,
)

COLUMNS = tuple(
    [pattern.format(letter, letter.lower()) for letter in LETTERS] for pattern in ("{0}", "{1}", "option_{1}")
)


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
        row = Fields({**row, "answer": str(row["answer"])})
    options = _columns(row)
    if options is YES_NO and str(row.get("answer")).strip().lower() not in TRUTH and (empty := _option_fields(row)):
        raise ValueError(f"no option in {', '.join(map(repr, empty))}, and the answer is not yes or no")
    if options is YES_NO and str(row.get("answer")).strip().lower() not in (*TRUTH, "a", "b", "", "none"):
        raise ValueError("no options, and the answer is not yes or no; load short answers with the task shortqa")
    return with_split(plain(row, options, _read))


def _read(answer: str, options: Mapping[str, str]) -> str:
    """Return the letter of an answer. To yes and no, True and False are the same, in either case."""
    truths = [TRUTH.get(text.lower()) for text in options.values()]
    if answer.lower() in TRUTH and truths in ([True, False], [False, True]):
        return LETTERS[truths.index(TRUTH[answer.lower()])]
    return by_label_or_text(answer, options)


def _columns(row: Row) -> tuple[str, ...] | None:
    """Return the options of one column each, yes and no where there are none; None for options of one field."""
    if isinstance(row.get("question"), Mapping) or any(row.get(name) not in (None, "") for name in OPTIONS):
        return None
    fields = {name.strip(): value for name, value in row.items()}  # a column `n` numbers rows: it is no option N
    for names, where in zip(COLUMNS, (fields, fields, row), strict=True):
        cells = [written(where.get(name), name) for name in names]
        if any(cells):
            return without_gaps(cells)
    return YES_NO


def _option_fields(row: Row) -> list[str]:
    """Return the names of the row's fields that are for options."""
    known = {*OPTIONS, *(name for names in COLUMNS for name in names)}
    return [name for name in row if name.strip() in known or name.strip().lower() in known]


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
