"""What students learn from besides a teacher's rationales: other orders of passages, and rationales of their own.

Both come from runs over the training questions, which search, train and answer as any run does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kard.config import Decoding, StudentTraining
from kard.db import rows
from kard.evaluation.answer import unanswered
from kard.evaluation.condition import Condition, passages_read
from kard.methods import METHODS
from kard.pipeline.options import RunOptions
from kard.questions import QuestionSet

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.student.examples import RationaleSource, TrainingExtras

GROUNDED = ("silver", "bm25", "shuffled")  # passages that a rationale's own search has found, or its question's
Asked = tuple[Condition, QuestionSet]
"""A condition, and the questions that are answered under it."""


def ordering(options: RunOptions, drawn: tuple[int, ...] | None) -> RunOptions | None:
    """Return the options of the run that searches with the training questions, None where grounding does."""
    passages = options.settings.student_training.passages
    if passages in GROUNDED or not any(METHODS[m].trained and METHODS[m].reads for m in options.methods):
        return None
    return _over(options, replace(options.settings.student, passages="silver", own=0), ("kard",), passages, drawn)


def explaining(options: RunOptions, others: tuple[int, ...]) -> RunOptions | None:
    """Return the options of the run in which earlier students explain these training questions, None if none do."""
    training = options.settings.student_training
    methods = tuple(m for m in options.methods if METHODS[m].trained and METHODS[m].reasons)
    if not training.own or not methods or not others:
        return None
    retriever = "bm25" if training.passages in GROUNDED else training.passages
    return _over(options, replace(options.settings.student, own=0), methods, retriever, others, training.own)


def unexplained(db: Database, source: RationaleSource, taught: QuestionSet) -> tuple[int, ...]:
    """Return the row ids of the training questions with an answer that the source does not explain to a student."""
    parameters = {
        **taught.parameters,
        "teacher": source.teacher_id,
        "accept": source.accept,
        "rationale_form": source.rationale_form,
        "index": None,
    }
    explained = {row["question_id"] for row in rows(db, "internal/training_rationales", **parameters)}
    asked = QuestionSet(taught.task, taught.split, taught.limit).read(db)
    return tuple(id for id, question in asked.items() if question.answer is not None and id not in explained)


def read_extras(db: Database, task: str, ordered: Asked | None, explained: Asked | None) -> TrainingExtras | None:
    """Return what is learned from, None while questions lack passages or answers. Raises Missing without any."""
    from kard.student.examples import TrainingExtras

    learned = TrainingExtras()
    if ordered:
        condition, questions = ordered
        read = passages_read(db, task, condition)
        searched = {
            row["question_id"]: row["hits"]
            for row in rows(db, "internal/hits_of_questions", index=condition.index_id)
        }
        if any(id not in read and searched.get(id) != 0 for id in questions.read(db)):
            return None
        learned = replace(learned, read=read)
    if explained:
        condition, questions = explained
        if unanswered(db, task, condition, questions):
            return None
        learned = replace(learned, explained=str(condition.row(task)["hash"]), others=questions.drawn or ())
    return learned


def _over(
    options: RunOptions,
    student: StudentTraining,
    methods: tuple[str, ...],
    retriever: str,
    only: tuple[int, ...] | None,
    samples: int = 1,
) -> RunOptions:
    """Return the options of a run of such students over training questions; they read as much as in training."""
    settings = options.settings
    return replace(
        options,
        settings=replace(
            settings,
            student=student,
            retrieval=replace(settings.retrieval, k=settings.student_training.k),
            # What is learned does not depend on how a student answers later: by a server, say.
            decoding=Decoding(
                samples=samples, max_new_tokens=settings.decoding.max_new_tokens, batch=settings.decoding.batch
            ),
        ),
        methods=methods,
        retrievers=(retriever,),
        split="train",
        limit=options.train_limit,
        only=only,
    )
