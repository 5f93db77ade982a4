"""Short answers, to questions without options: HotpotQA, and questions of your own.

A row of your own, as CSV, JSON or JSON lines; all but the first two fields may be left out. Where nothing says the
split, a hash of the id puts about a fifth of the questions into test:

    {"question": "Which river flows through Vienna?", "answer": "the Danube", "id": "v1", "split": "train",
     "rationale": "Vienna lies on both banks of the Danube.", "facts": [], "evidence": ["doc7"]}

Rows of HotpotQA are read as published and as the hub has them. Their supporting sentences become the `facts`, which
are looked for in your knowledge base, and bridge and comparison questions are reported apart:

    {"_id": "5a8b", "question": "...", "answer": "yes", "type": "comparison", "level": "easy",
     "supporting_facts": [["Ed Wood", 0]], "context": [["Ed Wood", ["Ed Wood was an American director.", "..."]]]}

An answer is right if it equals the given one apart from case, punctuation and articles (exact match); reports show
F1 over the words of both beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import dspy

from kard.files import Fields, Row
from kard.records import Question
from kard.tasks import Task

from ._common import LABELS, OPTIONS, STUDENTS, RetrieveThenAnswer, optional, plain, with_split


class TeachShort(dspy.Signature):
    """Explain, step by step and from facts, why the given answer is right.

    End with one sentence that states the answer: "Therefore, the answer is ...".
    """

    question: str = dspy.InputField()
    answer: str = dspy.InputField(desc="the right answer, a few words")
    rationale: str = dspy.OutputField(desc="facts, then: Therefore, the answer is (the given answer).")


class AnswerShort(dspy.Signature):
    """Reason about the question, from the passages where some are given, then answer in a few words."""

    question: str = dspy.InputField()
    passages: list[str] = dspy.InputField(desc="what was found, best first, as Title: text")
    rationale: str = dspy.OutputField(desc="the facts that decide")
    answer: str = dspy.OutputField(desc="a name, a number or a few words")


def parse(row: Row) -> Question | None:
    """Return the question of a row: of HotpotQA or in the plain form. Raises ValueError."""
    if held := [name for name in (*OPTIONS, *LABELS, "A", "B") if row.get(name) not in (None, "", [])]:
        raise ValueError(f"field {held[0]!r} is for options; load such questions with the task choice")
    if not any(name in row for name in ("_id", "context", "supporting_facts")):
        return with_split(plain(row, ()))
    changed = Fields(row)
    changed |= {"answer": row.get("answer"), "id": row.get("_id", row.get("id")), "facts": _facts(row)}
    return replace(plain(changed, ()), kind=optional(row, "type"))


def _facts(row: Row) -> list[str]:
    """Return the sentences that support the answer, of those that the row holds. Raises ValueError."""
    told = dict(_pairs(row, "context", "sentences"))
    facts: list[str] = []
    for title, number in _pairs(row, "supporting_facts", "sent_id"):
        sentences = told.get(title, [])  # fullwiki's context need not have it, and a few numbers name no sentence
        if not isinstance(sentences, list) or not isinstance(number, int):
            raise ValueError(f"field 'supporting_facts' or 'context' holds no sentences of {title!r}")
        facts += [str(sentence) for sentence in cast("list[object]", sentences)[number : number + 1]]
    return facts


def _pairs(row: Row, name: str, second: str) -> list[tuple[str, object]]:
    """Return the pairs that a field lists, or holds as two lists, `title` and the second. Raises ValueError."""
    value = row.get(name, [])
    columns = [value.get("title"), value.get(second)] if isinstance(value, Mapping) else []
    pairs = list(zip(*columns, strict=False)) if columns and all(isinstance(c, list) for c in columns) else value
    if isinstance(pairs, list) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        return [(str(title), held) for title, held in pairs]
    raise ValueError(f"field {name!r} does not hold pairs of a title and its {second}")


SHOTS = tuple(
    {"question": question, "answer": answer, "rationale": f"{because} Therefore, the answer is {answer}."}
    for question, answer, because in (
        ("Which country has a border with Portugal?", "Spain", "Portugal lies between Spain and the Atlantic."),
        ("How many strings does a string quartet have?", "sixteen", "Its four instruments have four each."),
    )
)

TASK = Task(
    name="shortqa",
    about="Short answers without options: HotpotQA, or your own CSV or JSON lines.",
    parse=parse,
    teach=TeachShort,
    answer=AnswerShort,
    program=RetrieveThenAnswer,
    shots=SHOTS,
    students=STUDENTS,
)
