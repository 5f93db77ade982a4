"""The values that modules exchange: questions, documents, passages, rationales, answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Literal

LETTERS = ascii_uppercase  # option 0 is A, option 1 is B, ...

Forced = Literal["budget", "unread"]
FORCED: Mapping[Forced, str] = {
    "budget": "no token left for an answer",
    "unread": "forced: the text named no option",
}
"""Why a student's answer was forced, or why a short answer is none, in words."""


def digest(*parts: str, length: int = 16) -> str:
    """Return the first `length` hex digits of sha256 over `parts`, each followed by a NUL."""
    return hashlib.sha256("\0".join((*parts, "")).encode()).hexdigest()[:length]


def canonical(value: Mapping[str, object]) -> str:
    """Return the one JSON form of a value, of which hashes of settings are taken."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a task.

    `key` is the published id. `answer` is the letter of the right option or, without options, a short answer; None
    if it is unknown.
    `evidence` names the documents that hold the answer, `facts` are statements from which it follows.
    `kind` groups questions that are reported apart (yes/no and four options, say), '' if there is one group.
    `rationale` is an explanation from the question's own file, if any.
    """

    key: str
    split: str
    text: str
    options: tuple[str, ...]
    answer: str | None
    evidence: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    kind: str = ""
    rationale: str = ""

    @property
    def letters(self) -> str:
        """Return the letters that an answer may have: 'AB' for two options."""
        return LETTERS[: len(self.options)]

    @property
    def gold(self) -> str | None:
        """Return the text of the right answer, None if it is unknown."""
        return self.options[LETTERS.index(self.answer)] if self.answer and self.options else self.answer


@dataclass(frozen=True, slots=True)
class Document:
    """A document of a source, before it is split into passages. `key` is its id in the source."""

    key: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """About a hundred words of a document. `id` is a hash of the content."""

    id: str
    document: str  # key of the document in its source; what `Question.evidence` names
    part: int  # 0 for the first passage of its document
    title: str
    text: str

    @classmethod
    def of(cls, document: str, part: int, title: str, text: str) -> Passage:
        """Return the passage with the id of its content."""
        return cls(digest(document, str(part), title, text), document, part, title, text)

    @property
    def line(self) -> str:
        """The passage as models read it."""
        return f"{self.title}: {self.text}"


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that a query found. Scores are comparable only within one query."""

    passage: Passage
    rank: int  # 1 is best
    bm25: float
    score: float | None = None  # of the reranker, None before it ranks


@dataclass(frozen=True, slots=True)
class Rationale:
    """A teacher's text for a question.

    `conclusion` is the answer that the teacher gave apart from the text: '' for none that can be read, None if it
    was not asked for one.
    """

    question_key: str
    sample: int  # 0-based among the teacher's samples for the question
    text: str
    conclusion: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0  # US dollars
    milliseconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """A text that a student wrote.

    `forced` says why `Answer:` and the likeliest option were appended: `budget` where no token was left, `unread`
    where the text ended and named no option. Without options nothing is appended at the budget.
    """

    text: str
    answer: str | None  # a letter or short answer, None if none could be read from the text
    forced: Forced | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    milliseconds: float = 0.0
    cut: bool = False  # the prompt lost passage text
    shares: tuple[float, ...] = ()  # of each option in the answer, sum 1, where likelihood decides


@dataclass(frozen=True, slots=True)
class Prediction:
    """A student's answer to a question: the majority of its samples, and the passages that it read."""

    question_id: int
    answer: str | None
    samples: tuple[Sample, ...]
    passages: tuple[str, ...] = field(default=())  # passage ids, in the order of the prompt
