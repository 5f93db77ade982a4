"""The check `screen`: evaluated questions whose text stands in a training question or in a passage of the store.

The store's passages are those that were ever hits: one that holds a question's very words is among its first hits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from kard.db import execute, insert_ignoring, now, value, writing
from kard.evaluation.contamination import MIN_WORDS, NGRAM_WORDS, QuestionFinder
from kard.pipeline.run import Run
from kard.pipeline.step import State, Step


def _searched_texts(run: Run) -> str:
    """Return a hash of all texts in which a question is looked for, and of how."""
    sha = hashlib.sha256(f"{NGRAM_WORDS} {MIN_WORDS}".encode())
    training = "select id, hash from questions where task = ? and split = 'train' order by id"
    for question_id, content in run.db.execute(training, [run.name]):
        sha.update(f"{question_id} {content}\n".encode())
    for (passage_id,) in run.db.execute("select id from passages order by id"):
        sha.update(f"{passage_id}\n".encode())
    return sha.hexdigest()[:16]


def _unscreened(run: Run, current: str) -> dict[int, str]:
    """Return id and text of the evaluated questions that were not looked for in the present texts."""
    if run.split == "train":
        return {}
    screened = run.db.execute("select question_id from overlap_checks where against = ?", [current])
    done = {row[0] for row in screened}
    return {i: question.text for i, question in run.evaluated.read(run.db).items() if i not in done}


def _state(run: Run) -> State:
    """Count evaluated questions that were and were not looked for; note how many stand somewhere."""
    missing = len(_unscreened(run, _searched_texts(run)))
    overlapping = _count_overlapping(run)
    note = f"{overlapping} overlap" if overlapping else ""
    return State("questions", len(run.evaluated.read(run.db)) - missing, missing, note=note)


def _count_overlapping(run: Run) -> int:
    return value(run.db, "internal/count_overlapping", task=run.name, split=run.split)


def _screen(run: Run) -> int:
    """Look for the questions that were not looked for; return their number. All results are stored at once."""
    current = _searched_texts(run)
    questions = _unscreened(run, current)
    if not questions:
        return 0
    finder, created = QuestionFinder(questions), now()
    overlaps: list[dict[str, object]] = []
    for column, text_id, text in _texts(run):
        overlaps += [
            {
                "question_id": overlap.question,
                "other_question_id": text_id if column == "question" else None,
                "passage_id": text_id if column == "passage" else None,
                "kind": overlap.kind,
                "share": overlap.share,
                "created": created,
            }
            for overlap in finder.find(text)
        ]
    with writing(run.db):
        # Deleting the row of an earlier check deletes its overlaps too.
        execute(run.db, "internal/drop_checks_of_questions", questions=list(questions))
        checks = [{"question_id": i, "against": current, "created": created} for i in questions]
        insert_ignoring(run.db, "overlap_checks", checks)
        insert_ignoring(run.db, "overlaps", overlaps)
    if overlapping := _count_overlapping(run):
        run.notes.append(
            f"{overlapping} {run.split} questions stand in training questions or passages, whole or in part;"
            f" see: kard query contamination --store {run.store}"
        )
    return len(questions)


def _texts(run: Run) -> Iterator[tuple[str, object, str]]:
    """Yield every text in which questions are looked for: its kind, its id, the text."""
    training = "select id, text from questions where task = ? and split = 'train' order by id"
    for question_id, text in run.db.execute(training, [run.name]):
        yield "question", question_id, text
    for passage_id, title, text in run.db.execute("select id, title, text from passages order by rowid"):
        yield "passage", passage_id, f"{title}\n{text}"


SCREEN = Step(
    "screen",
    "check",
    "look for evaluated questions in training questions and passages",
    _state,
    _screen,
    drop="internal/drop_screen",
)
