"""Training questions as a student sees them: each with an accepted rationale and its passages (section 3.2)."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import dspy
from sqlite_utils import Database

from kard.acceptance import require_verdicts
from kard.answers.parsing import without_closing
from kard.answers.short import same_answer
from kard.config import Accept, Prompting, RationaleForm, StudentTraining, require
from kard.db import rows
from kard.errors import Missing
from kard.methods import Method
from kard.passages import read_passages, shuffled
from kard.questions import QuestionSet
from kard.recipes import TrainingData
from kard.records import Passage, digest
from kard.student.prompt import (
    answer_form,
    before_answer,
    one_line,
    render_prompt,
    signature_for,
    target_pieces,
)
from kard.tasks import Task


@dataclass(frozen=True, slots=True)
class Pair:
    """One question with one rationale. `passages` stand as they are read; () if the method reads none."""

    question_id: int
    rationale_id: int
    question: str
    options: tuple[str, ...]
    answer: str  # letter or short answer
    rationale: str
    passages: tuple[str, ...]

    def inputs(self) -> Mapping[str, object]:
        """Return the input fields of a task's `answer` signature."""
        return {"passages": list(self.passages), "question": self.question, "options": list(self.options)}

    def outputs(self, settings: StudentTraining) -> Mapping[str, str]:
        """Return the output fields of a task's `answer` signature."""
        return {"rationale": self.rationale, "answer": answer_form(self.options, self.answer, settings)}


@dataclass(frozen=True, slots=True)
class RationaleSource:
    """Which rationales a student is taught with, or a prompted base is shown."""

    teacher_id: str | None = None  # None: of any teacher
    accept: Accept = "own"
    rationale_form: RationaleForm = "rationale"  # of the queries that found their passages
    limit: int | None = None  # only the first so many training questions
    fraction: float = 1.0  # of which this share is drawn
    draw: int = 0  # seed of that draw

    def questions(self, db: Database, task_name: str) -> QuestionSet:
        """Return the task's training questions."""
        return QuestionSet(task_name, "train", self.limit).draw(db, self.fraction, self.draw)

    def data(self, sha256: str, questions: int, rationales: int, index_id: str | None = None) -> TrainingData:
        """Return what says where so many questions and rationales of this source came from."""
        where = self.teacher_id, index_id, self.limit, 0, self.fraction, self.draw, self.accept
        return TrainingData(sha256, questions, rationales, *where)


@dataclass(frozen=True, slots=True)
class TrainingExtras:
    """What a student learns from besides the source's rationales and the passages that these found."""

    read: Mapping[int, Sequence[Passage]] | None = None  # instead of those, by question
    explained: str = ""  # hash of the condition under which an earlier student explained other questions
    others: Sequence[int] = ()  # row ids of these


def training_pairs(
    db: Database,
    task_name: str,
    method: Method,
    settings: StudentTraining,
    source: RationaleSource,
    *,
    index_id: str | None,
    extras: TrainingExtras | None = None,
) -> list[Pair]:
    """Return a pair for every distinct accepted rationale of the source: by question, then shortest first.

    The questions are the same for every method: those with an accepted rationale and, if an index is given,
    grounded on it. What an earlier student explained comes last. Raises Missing with the command for the missing
    step.
    """
    extras = extras or TrainingExtras()
    require(settings.k > 0 or not method.reads, "k=0 stands for retrieval.k; give the number of passages")
    if method.reads and index_id is None:
        raise Missing(f"method {method.name} reads passages; find them with: kard ground {task_name}")
    questions = source.questions(db, task_name)
    require_verdicts(db, questions, source.accept, source.teacher_id)
    parameters = {
        **questions.parameters,
        "teacher": source.teacher_id,
        "accept": source.accept,
        "rationale_form": source.rationale_form,
    }
    rationales = rows(db, "internal/training_rationales", **parameters, index=index_id)
    if not rationales:
        if rows(db, "internal/training_rationales", **parameters, index=None):
            raise Missing(f"no passages for the rationales of {task_name}; find them with: kard ground {task_name}")
        raise Missing(f"no accepted rationales for {task_name}; ask a teacher with: kard teach {task_name}")
    # By what is stored: a method that teaches no rationale reads the passages of the same ones first.
    rationales.sort(key=lambda r: (r["question_id"], len(without_closing(r["rationale"])), r["rationale_id"]))
    pairs = [_pair(db, row, method, settings, extras.read) for row in rationales]
    return [*controlled(list(_distinct(pairs)), settings), *_own_pairs(db, method, extras)]


def controlled(pairs: Sequence[Pair], settings: StudentTraining) -> list[Pair]:
    """Return the pairs as the settings' controls leave them: fewer, with other passages, with wrong rationales.

    Each control changes one part of a pair. Which rationales are wrong depends on the seed; those of a smaller
    share are among those of a larger one. Raises BadConfig for wrong rationales of one question alone.
    """
    by_question: dict[int, list[Pair]] = {}
    for pair in pairs:
        by_question.setdefault(pair.question_id, []).append(pair)
    if settings.passages == "shuffled":
        others = shuffled({question: [pair.passages for pair in of] for question, of in by_question.items()})
        by_question = {
            question: [
                replace(pair, passages=read) for pair, read in zip(of, cycle(others[question]), strict=False)
            ]
            for question, of in by_question.items()
        }
    by_question = {question: of[: settings.distinct or None] for question, of in by_question.items()}
    kept = [pair for of in by_question.values() for pair in of]
    require(
        not settings.wrong or len(by_question) > 1, "a wrong rationale is another question's; there is only one"
    )

    def drawn(pair: Pair) -> str:
        return digest(str(settings.seed), "wrong", pair.question, pair.rationale)

    wrong = set(sorted(kept, key=drawn)[: round(settings.wrong * len(kept))])
    questions = list(by_question)
    places = {question: place for place, question in enumerate(questions)}
    taught: list[Pair] = []
    for pair in kept:
        if pair in wrong:
            draw = random.Random(drawn(pair))
            step = draw.randrange(1, len(questions))
            other = draw.choice(by_question[questions[(places[pair.question_id] + step) % len(questions)]])
            pair = replace(pair, rationale=other.rationale)  # its id stays: seeds have equal numbers of examples
        taught.append(pair)
    return taught


def within_budget(pairs: Sequence[Pair], length: Callable[[Pair], int], max_target: int) -> list[Pair]:
    """Return the pairs whose target has at most `max_target` tokens; of a question without any, its shortest one.

    `length` returns the tokens of a pair's target. 0 keeps every pair. Every question stays, so that methods are
    compared on the same ones.
    """
    if not max_target:
        return list(pairs)
    lengths = {pair: length(pair) for pair in pairs}
    shortest: dict[int, int] = {}
    for pair, tokens in lengths.items():
        shortest[pair.question_id] = min(tokens, shortest.get(pair.question_id, tokens))
    return [pair for pair in pairs if lengths[pair] <= max(max_target, shortest[pair.question_id])]


def pairs_by_epoch(pairs: Sequence[Pair], settings: StudentTraining) -> list[list[Pair]]:
    """Return the pairs of each epoch: `settings.rationales` of every question, each epoch others in turn.

    The last epoch has each question's first, which are its shortest, and each earlier epoch the next ones. Each is
    varied as the settings say (`vary`). With `answer_alone` each question's answer follows, without a rationale.
    """
    by_question: dict[int, list[Pair]] = {}
    for pair in pairs:
        by_question.setdefault(pair.question_id, []).append(pair)
    epochs = [
        [
            # A student writes like what it saw last. With the longest ones last, 47% of the last epoch's targets
            # had more than 128 tokens, and 43% of the answers were forced at that budget; so it is 18%.
            vary(
                of_question[((settings.epochs - 1 - epoch) * settings.rationales + i) % len(of_question)],
                settings,
                epoch,
            )
            for of_question in by_question.values()
            for i in range(min(settings.rationales, len(of_question)))
        ]
        for epoch in range(settings.epochs)
    ]
    if settings.answer_alone:
        for taught in epochs:
            firsts: dict[int, Pair] = {}
            for pair in taught:
                firsts.setdefault(pair.question_id, pair)
            taught += [replace(pair, rationale="") for pair in firsts.values()]
    return epochs


def vary(pair: Pair, settings: StudentTraining, epoch: int) -> Pair:
    """Return the pair as an epoch shows it: with `shuffle` its passages are in another order.

    The draw depends on the seed and on texts: row ids follow the order in which a teacher's answers arrived.
    """
    if not settings.shuffle:
        return pair
    draw = random.Random(digest(str(settings.seed), str(epoch), pair.question, pair.rationale))
    passages = list(pair.passages)
    draw.shuffle(passages)
    return replace(pair, passages=tuple(passages))


def student_data(
    db: Database,
    task: Task,
    method: Method,
    settings: StudentTraining,
    source: RationaleSource,
    *,
    index_id: str | None,
    extras: TrainingExtras | None = None,
) -> tuple[list[Pair], TrainingData]:
    """Return the training pairs, and what says where they came from. Raises Missing as `training_pairs` does.

    The hash covers every prompt and target as it is rendered. Which of them an epoch takes follows from settings
    and the base's tokenizer, which stand in the recipe beside the hash.
    """
    pairs = training_pairs(db, task.name, method, settings, source, index_id=index_id, extras=extras)
    signature = signature_for(task.answer, method)
    sha256 = hash_texts(render_pair(signature, pair, settings) for pair in pairs)
    count, own = len({pair.question_id for pair in pairs}), sum(pair.rationale_id < 0 for pair in pairs)
    return pairs, replace(source.data(sha256, count, len(pairs) - own, index_id), own=own)


def shot_pairs(
    db: Database,
    task_name: str,
    method: Method,
    prompting: Prompting,
    source: RationaleSource,
    *,
    index_id: str | None = None,
) -> list[Pair]:
    """Return the training questions that a base is shown, drawn by the seed, each with its shortest rationale.

    With an index, the same ones have their silver passages. Raises Missing with the command for the missing step.
    """
    settings = StudentTraining(k=prompting.k)

    def pairs(index: str | None) -> list[Pair]:
        with_rationale = Method(method.name, reads=index is not None, reasons=True)
        return training_pairs(db, task_name, with_rationale, settings, source, index_id=index)

    shortest: dict[int, Pair] = {}
    for pair in pairs(None):
        shortest.setdefault(pair.question_id, pair)
    draw = random.Random(f"shots {prompting.seed}")
    drawn = [shortest[i] for i in draw.sample(sorted(shortest), min(prompting.shots, len(shortest)))]
    if index_id is None:
        return drawn
    grounded = {pair.rationale_id: pair for pair in pairs(index_id)}
    if any(pair.rationale_id not in grounded for pair in drawn):
        raise Missing(f"no passages for some rationales of {task_name}; find them with: kard ground {task_name}")
    return [grounded[pair.rationale_id] for pair in drawn]


def shot_data(
    db: Database, task_name: str, method: Method, prompting: Prompting, source: RationaleSource
) -> TrainingData:
    """Return what says which examples a base is shown; a method without examples has none. Raises Missing."""
    if not method.shots:
        return TrainingData(hash_texts([]), 0, 0, None, None)
    pairs = shot_pairs(db, task_name, method, prompting, source)
    sha256 = hash_texts([pair.question, pair.options, pair.answer, pair.rationale] for pair in pairs)
    return source.data(sha256, len(pairs), len(pairs))


def render_pair(
    signature: type[dspy.Signature], pair: Pair, settings: StudentTraining
) -> tuple[str, list[tuple[str, str]]]:
    """Return the prompt and the pieces of the target.

    Without a rationale the prompt goes on to `Answer:`, so that no student learns to leave its rationale out.
    """
    prompt, pieces = render_prompt(signature, pair.inputs()), target_pieces(signature, pair.outputs(settings))
    if len(pieces) > 1 and not pair.rationale:
        cue, answer = pieces[-1]
        return prompt + cue, [("", answer)]
    return prompt, pieces


def hash_texts(texts: Iterable[object]) -> str:
    """Return the sha256 of these texts, or lists of texts, in order."""
    sha256 = hashlib.sha256()
    for text in texts:
        sha256.update(json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return sha256.hexdigest()


def _pair(
    db: Database,
    row: Mapping[str, Any],
    method: Method,
    settings: StudentTraining,
    read: Mapping[int, Sequence[Passage]] | None,
) -> Pair:
    passages: list[str] = []
    if method.reads and read is not None:
        passages = [passage.line for passage in read.get(row["question_id"], ())]
    elif method.reads:
        by_question = settings.passages == "bm25"
        hits = rows(
            db, "internal/first_passages", retrieval=row["retrieval_id"], k=settings.k, by_question=by_question
        )
        passages = [f"{hit['title']}: {hit['text']}" for hit in hits]
    return Pair(
        question_id=row["question_id"],
        rationale_id=row["rationale_id"],
        question=row["question"],
        options=tuple(json.loads(row["options"])),
        answer=row["answer"],
        rationale=without_closing(row["rationale"]) if method.reasons else "",
        passages=tuple(passages),
    )


def _own_pairs(db: Database, method: Method, extras: TrainingExtras) -> list[Pair]:
    """Return what an earlier student wrote of the other questions: each distinct rationale with a right answer.

    The passages are those that it read. A text whose answer was forced is none.
    """
    if not extras.explained:
        return []
    written = rows(db, "internal/own_rationales", hash=extras.explained, questions=list(extras.others))
    found = [row for row in written if same_answer(row["said"], row["answer"])]
    ids = {id for row in found for id in json.loads(row["passages"])} if method.reads else ()
    passages = read_passages(db, sorted(ids))
    pairs = [
        Pair(
            question_id=row["question_id"],
            rationale_id=-place,  # not a row of `rationales`
            question=row["question"],
            options=tuple(json.loads(row["options"])),
            answer=row["answer"],
            rationale=one_line(before_answer(row["text"])),
            passages=tuple(passages[id].line for id in json.loads(row["passages"]) if method.reads),
        )
        for place, row in enumerate(found, 1)
    ]
    pairs = [pair for pair in pairs if pair.rationale]  # an answer alone would teach to answer alone
    return sorted(_distinct(pairs), key=lambda pair: (pair.question_id, len(pair.rationale), pair.rationale))


def _distinct(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Yield pairs, leaving out those that would be rendered like an earlier one."""
    seen: set[tuple[int, str, tuple[str, ...]]] = set()
    for pair in pairs:
        # Other passages do not make another target. Without a rationale, they are all that differs.
        key = (pair.question_id, pair.rationale.casefold(), () if pair.rationale else pair.passages)
        if key not in seen:
            seen.add(key)
            yield pair
