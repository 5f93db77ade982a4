"""One new question through the task's own program, watched as it goes: passages, texts, the vote (section 3.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from kard.answers.vote import majority
from kard.config import METHODS, Decoding
from kard.errors import BadInput
from kard.evaluation.answer import samples_of
from kard.records import LETTERS, Passage, Sample
from kard.retrieval.live import LiveRetriever, RankedHit
from kard.tasks import Task

if TYPE_CHECKING:
    from kard.student.generation.student import Student


@dataclass(frozen=True, slots=True)
class Written:
    """One text of the student, with what it answers: an option's text, or free text; '' when it answers nothing."""

    sample: Sample
    rationale: str
    answer: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The vote: `answer` is an option's text or free text, '' when no text answered; `letter` the option's."""

    found: tuple[RankedHit, ...]
    written: tuple[Written, ...]
    answer: str
    letter: str | None
    votes: tuple[tuple[str, int], ...]  # answers with their votes, most first
    milliseconds: float


def ask(
    task: Task,
    student: Student,
    method: str,
    question: str,
    options: Sequence[str],
    *,
    source: LiveRetriever | None,
    decoding: Decoding,
    heard: Callable[[list[RankedHit]], None] = lambda _: None,
) -> Reply:
    """The student's reply. `heard` gets the passages as soon as they are found, before the student writes.

    Without options the student answers in free text, and texts are votes when they are alike but for case and
    punctuation. Raises BadInput for a question without words or a single option.
    """
    import dspy

    from kard.student.generation.engine import EngineLM
    from kard.student.prompt import StudentAdapter, one_line, signature_for

    check(question, options)
    found: list[RankedHit] = []

    def retrieve(text: str) -> list[Passage]:
        if source is not None:
            found.extend(source.find(text))
            heard(list(found))
        return [one.hit.passage for one in found if one.read]

    known = METHODS[method]
    program = task.program(signature_for(task.answer, known), retrieve if known.reads and source else None)
    lm = EngineLM(student, decoding)
    begin = perf_counter()
    try:
        with dspy.context(lm=lm, adapter=StudentAdapter()):
            outcome: Any = program(question=one_line(question), options=[one_line(option) for option in options])
    finally:
        lm.close()
    took = (perf_counter() - begin) * 1000
    samples = samples_of(outcome)
    parsed = [outcome.completions[i] for i in range(len(samples))]
    written = tuple(
        Written(sample, str(getattr(one, "rationale", "") or ""), _answer(sample, str(one.answer or ""), options))
        for sample, one in zip(samples, parsed, strict=True)
    )
    return _voted(tuple(found), written, options, took)


def check(question: str, options: Sequence[str]) -> None:
    """Raises BadInput for what cannot be asked."""
    if not question.strip():
        raise BadInput('the question is empty; ask one: kard ask "..."')
    if any(not option.strip() for option in options):
        raise BadInput("an option is empty; leave it out or name it with --option TEXT")
    if len(options) == 1 or len(options) > len(LETTERS):
        raise BadInput(f"the number of options is {len(options)}, not 2 to {len(LETTERS)}; or ask without any")


def _answer(sample: Sample, text: str, options: Sequence[str]) -> str:
    """The option that the text answers, else its own words."""
    if options:
        return "" if sample.answer is None else options[LETTERS.index(sample.answer)]
    return text.strip()


def _voted(
    found: tuple[RankedHit, ...], written: tuple[Written, ...], options: Sequence[str], took: float
) -> Reply:
    keys = [one.sample.answer if options else _alike(one.answer) or None for one in written]
    winner, _ = majority(keys)
    shown = {key: one.answer for key, one in reversed(list(zip(keys, written, strict=True)))}  # the first wording
    counts = Counter(key for key in keys if key is not None)
    votes = tuple((shown[key], count) for key, count in counts.most_common())
    return Reply(found, written, shown.get(winner, ""), winner if options else None, votes, took)


def _alike(text: str) -> str:
    """The text without case, punctuation and spacing: what makes two free answers one."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
