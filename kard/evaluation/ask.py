"""Ask one new question through the task's own program and watch: passages, texts, the vote (section 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from kard.answers.mentions import alike
from kard.answers.vote import counted, vote
from kard.config import Decoding
from kard.errors import BadInput
from kard.evaluation.answer import samples_of
from kard.methods import METHODS
from kard.records import LETTERS, Passage, Sample
from kard.retrieval.live import RankedHit
from kard.tasks import Task

if TYPE_CHECKING:
    from kard.student.generation.engine import EngineLM
    from kard.student.generation.student import Student


class Finder(Protocol):
    """What finds the passages of a question: a `LiveRetriever`, or one that works in another thread."""

    def find(self, question: str, options: Sequence[str] = ()) -> list[RankedHit]: ...


@dataclass(frozen=True, slots=True)
class StudentText:
    """One text of the student. `answer` is an option's text or free text, '' if the text answers nothing."""

    sample: Sample
    rationale: str
    answer: str


@dataclass(frozen=True, slots=True)
class StudentReply:
    """The passages found, the texts written and the vote over them."""

    hits: tuple[RankedHit, ...]
    texts: tuple[StudentText, ...]
    answer: str  # an option's text or free text, '' if no text answered
    letter: str | None  # of the option
    votes: tuple[tuple[str, int], ...]  # answers with their votes, most votes first
    milliseconds: float


def ask(
    task: Task,
    student: Student,
    method: str,
    question: str,
    options: Sequence[str],
    *,
    retriever: Finder | None,
    decoding: Decoding,
    on_hits: Callable[[list[RankedHit]], None] = lambda _: None,
    shots: Sequence[Mapping[str, Any]] = (),
) -> StudentReply:
    """Return the student's reply. `on_hits` gets the passages before the student writes.

    `shots` are the worked examples that a base without training is shown.

    Without options the student answers in free text. Two such texts agree if they differ only by case and
    punctuation.
    Raises BadInput for an empty question, a single option, and what is far longer than the student was taught.
    """
    from kard.student.generation.engine import EngineLM

    if problem := student.too_long(question, *options):
        raise BadInput(f"{problem}; shorten it")
    lm = EngineLM(student, decoding)
    try:
        return ask_lm(task, lm, method, question, options, retriever=retriever, on_hits=on_hits, shots=shots)
    finally:
        lm.close()


def ask_lm(
    task: Task,
    lm: EngineLM,
    method: str,
    question: str,
    options: Sequence[str],
    *,
    retriever: Finder | None,
    on_hits: Callable[[list[RankedHit]], None] = lambda _: None,
    shots: Sequence[Mapping[str, Any]] = (),
) -> StudentReply:
    """Return what `ask` returns, of a student whose LM stays open; its settings are those of the call."""
    import dspy

    from kard.student.prompt import StudentAdapter, one_line, signature_for

    check_question(question, options)
    if options and "options" not in task.answer.input_fields:
        raise BadInput(f"students of {task.name} answer in words of their own; ask without options")
    hits: list[RankedHit] = []

    def retrieve(text: str, among: Sequence[str]) -> list[Passage]:
        if retriever is not None:
            hits.extend(retriever.find(text, among))
            on_hits(list(hits))
        return [hit.hit.passage for hit in hits if hit.read]

    reads = METHODS[method].reads and retriever is not None
    program = task.program(signature_for(task.answer, METHODS[method]), retrieve if reads else None)
    for predictor in program.predictors() if shots else ():
        predictor.demos = list(shots)
    begin = perf_counter()
    with dspy.context(lm=lm, adapter=StudentAdapter(shots=not METHODS[method].trained)):
        outcome: Any = program(question=one_line(question), options=[one_line(option) for option in options])
    milliseconds = (perf_counter() - begin) * 1000
    wordings = dict(zip(LETTERS, options, strict=False))  # without options an answer is its own wording
    texts: list[StudentText] = []
    for i, sample in enumerate(samples_of(outcome)):
        rationale = str(getattr(outcome.completions[i], "rationale", "") or "")
        answer = sample.answer or ""
        texts.append(StudentText(sample, rationale, wordings.get(answer, answer)))
    return _vote(hits, texts, wordings, milliseconds)


def check_question(question: str, options: Sequence[str]) -> None:
    """Raise BadInput if the question is empty, or if the options are empty, alike, too few or too many."""
    if not question.strip():
        raise BadInput('the question is empty; ask one: kard ask "..."')
    if any(not option.strip() for option in options):
        raise BadInput("an option is empty; leave it out or name it with --option TEXT")
    if len(options) == 1 or len(options) > len(LETTERS):
        raise BadInput(f"the number of options is {len(options)}, not 2 to {len(LETTERS)}; or ask without any")
    if pair := alike(options):
        raise BadInput(f"options {pair[0]!r} and {pair[1]!r} are alike; name each once")


def _vote(
    hits: Sequence[RankedHit], texts: Sequence[StudentText], wordings: Mapping[str, str], milliseconds: float
) -> StudentReply:
    """Return the vote over these texts. `wordings` has the options by their letters."""
    answers = [text.sample.answer for text in texts]
    winner, _ = vote(answers, [text.sample.shares for text in texts])
    return StudentReply(
        tuple(hits),
        tuple(texts),
        # With shares the winner may be an option that no single text answers.
        answer=wordings.get(winner, winner) if winner else "",
        letter=winner if wordings else None,
        votes=tuple((wordings.get(answer, answer), count) for answer, count in counted(answers)),
        milliseconds=milliseconds,
    )
