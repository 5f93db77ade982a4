"""Values that cross rooms: frozen, without behaviour beyond what they say of themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import ascii_uppercase

LETTERS = ascii_uppercase  # option 0 is A, option 1 is B, ...


def digest(*parts: str, length: int = 16) -> str:
    """The first `length` hex digits of sha256 over `parts`, each ended by a NUL."""
    return hashlib.sha256("\0".join((*parts, "")).encode()).hexdigest()[:length]


def canonical(value: Mapping[str, object]) -> str:
    """Our own canonical JSON, the form that every hash of a configuration is taken of."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a task.

    `key` is the published id. `answer` is an option's letter, None where the gold answer is not known.
    `evidence` names gold documents of the knowledge base, `facts` gold statements; both may be empty.
    `kind` groups questions that are reported apart (yes/no and four options, say); '' when there is one.
    `rationale` is an explanation that came with the question (a column of a person's own file), if any.
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
        """The letters that an answer may have: 'AB' for two options."""
        return LETTERS[: len(self.options)]

    @property
    def gold(self) -> str | None:
        """The text of the right option."""
        return None if self.answer is None else self.options[LETTERS.index(self.answer)]


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a source, before it is split into passages. `key` is the source's own id."""

    key: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """About a hundred words of a document. `id` holds the content: another text is another passage."""

    id: str
    document: str  # key of the document in its source; what `Question.evidence` names
    part: int  # 0 for the first passage of its document
    title: str
    text: str

    @classmethod
    def of(cls, document: str, part: int, title: str, text: str) -> Passage:
        """A passage with the id that its content gives it."""
        return cls(digest(document, str(part), title, text), document, part, title, text)


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that a query found. BM25 scores compare only within one query; so do reranker scores."""

    passage: Passage
    rank: int  # 1 is best
    bm25: float
    score: float | None = None  # the reranker's, once it has ranked


@dataclass(frozen=True, slots=True)
class Rationale:
    """What a teacher wrote for a question. `conclusion` is the letter it ends on, None when it ends on none."""

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
    """One text that a student wrote. `forced` when `Answer:` had to be appended at its token budget."""

    text: str
    answer: str | None  # a letter, None when no answer could be read from the text
    forced: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    milliseconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """A student's answer to a question: the vote over its samples, and the passages that it read."""

    question_id: int
    answer: str | None
    samples: tuple[Sample, ...]
    passages: tuple[str, ...] = field(default=())  # passage ids, in the order of the prompt
