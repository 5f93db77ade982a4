"""StrategyQA: yes/no questions that take several facts, none of which the question names.

A row of the published file (the rows of the hub have the same fields):

    {"qid": "0f3a61", "term": "Lighthouse", "description": "Tower with a light that guides ships",
     "question": "Would a lighthouse help a barge in Nebraska find the sea?", "answer": false,
     "facts": ["Nebraska has no coast.", "A lighthouse can be seen from some 30 kilometres."],
     "decomposition": ["How far does a lighthouse shine?", "How far is Nebraska from the sea?", "Is #2 below #1?"],
     "evidence": [[[["Lighthouse-4"]], [["Nebraska-1", "Nebraska-9"]], ["operation"]]]}

`evidence` is a list of annotators, of steps, of paragraphs. Rows in the plain form {id, question, options, answer,
facts, evidence}, with the letter A (yes) or B (no), are read too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from kard.config import Retrieval, TaskSettings
from kard.files import Row
from kard.records import Question
from kard.tasks import ENCODERS, Task

from ._common import (
    STUDENTS,
    TRUTH,
    YES_NO,
    Answer,
    RetrieveThenAnswer,
    Teach,
    checked,
    key_of,
    listed,
    optional,
    plain,
    required,
    several,
    shot,
)

NOT_PARAGRAPHS = ("operation", "no_evidence")  # steps that need no paragraph, and those without a known one


class TeachStrategy(Teach):
    """Explain why the given answer to the yes/no question is right.

    State in two to four short sentences the facts that decide it and how they combine, as an encyclopedia would.
    End with one sentence that states the answer: "Therefore, the answer is (A) yes." or with (B) no.
    """


class AnswerStrategy(Answer):
    """Reason in a few short sentences, from the passages where some are given, then answer yes or no."""


def parse(row: Row) -> Question | None:
    """Return the question of a row: published, from the hub or in the plain form. Raises ValueError."""
    if "options" in row:
        return plain(row)
    text = required(row, "question")
    return Question(
        key=key_of(row, text, YES_NO, "qid", "id"),
        split=optional(row, "split"),
        text=text,
        options=checked(YES_NO),
        answer=_answer(row),
        evidence=tuple(dict.fromkeys(_paragraphs(row.get("evidence")))),
        facts=several(row, "facts"),
    )


def _answer(row: Row) -> str | None:
    if "answer" not in row and "facts" not in row:  # the published test file holds questions only
        return None
    if "answer" not in row:
        raise ValueError("no field 'answer'")
    truth = TRUTH.get(row["answer"].lower()) if isinstance(row["answer"], str) else row["answer"]
    if not isinstance(truth, bool):
        raise ValueError(f"answer {row['answer']!r} is not true or false")
    return "A" if truth else "B"


def _paragraphs(evidence: object) -> Iterator[str]:
    """Yield the ids of paragraphs from lists nested to any depth, in their order."""
    pending = [listed(evidence, "evidence") if isinstance(evidence, str) else evidence]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            if value.strip() and value not in NOT_PARAGRAPHS:
                yield value
        elif isinstance(value, list):
            pending.extend(reversed(cast("list[object]", value)))
        elif value is not None:
            raise ValueError("field 'evidence' is not made of lists of paragraph ids")


SHOTS = (
    shot(
        "Would a lighthouse keeper on the Isle of May have needed a boat to buy bread in a shop?",
        YES_NO,
        "A",
        "The Isle of May lies in the Firth of Forth, about eight kilometres off the Scottish coast. "
        "It has never had a village or a shop. The nearest bakeries are on the mainland, across water.",
    ),
    shot(
        "Could a newborn blue whale be weighed on a scale made for lorries of at most one tonne?",
        YES_NO,
        "B",
        "A blue whale weighs between two and three tonnes at birth. "
        "A scale that ends at one tonne cannot weigh something heavier than that.",
    ),
    shot(
        "Did Johannes Kepler outlive the astronomer whose observations he used for his laws?",
        YES_NO,
        "A",
        "Kepler derived his laws of planetary motion from the observations of Tycho Brahe. "
        "Tycho Brahe died in 1601. Kepler died in 1630, which is later.",
    ),
)

TASK = Task(
    name="strategyqa",
    about="Yes/no questions that take several unnamed facts of Wikipedia (StrategyQA).",
    parse=parse,
    teach=TeachStrategy,
    answer=AnswerStrategy,
    program=RetrieveThenAnswer,
    shots=SHOTS,
    students=STUDENTS,
    encoders={**ENCODERS, "linkbert": "michiyasunaga/LinkBERT-base"},  # the built-in one, the paper's
    # nDCG@10 of 1,603 training questions' evidence: .346 by the question, .328 with yes and no beside it;
    # .449 by a rationale, .462 with the question before it (benchmarks/query_forms.py).
    settings=TaskSettings(retrieval=Retrieval(rationale_query="question+rationale")),
)
