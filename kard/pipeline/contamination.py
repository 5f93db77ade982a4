"""The check `screen`: evaluated questions whose text stands in a training question or in a passage of the store.

The store's passages are those that were ever found: one that holds a question's very words is among its first hits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from kard.db import insert_ignoring, now, writing
from kard.evaluation.contamination import LEAST, N, Sought
from kard.pipeline.run import Run
from kard.pipeline.step import OF_TASK, State, Step
from kard.questions import read_questions

_TRAINING = "select id, hash from questions where task = :task and split = 'train' order by id"
_FOUND = f"""
select count(distinct question_id) from overlaps
where question_id {OF_TASK} and question_id in (select id from questions where split = :split)
"""


def against(work: Run) -> str:
    """A hash of everything that a question is looked for in, and of how."""
    made = hashlib.sha256(f"{N} {LEAST}".encode())
    for key, content in work.db.execute(_TRAINING, {"task": work.task.name}):
        made.update(f"{key} {content}\n".encode())
    for (passage,) in work.db.execute("select id from passages order by id"):
        made.update(f"{passage}\n".encode())
    return made.hexdigest()[:16]


def unscreened(work: Run, current: str) -> dict[int, str]:
    """Id and text of the evaluated questions that were not looked for in what the store holds now."""
    if work.split == "train":
        return {}
    done = {
        row[0] for row in work.db.execute("select question_id from overlap_checks where against = ?", [current])
    }
    questions = read_questions(work.db, work.task.name, split=work.split, limit=work.choices.test_limit)
    return {key: question.text for key, question in questions if key not in done}


def state(work: Run) -> State:
    """Evaluated questions that were and were not looked for; those that were found are noted."""
    current = against(work)
    missing = len(unscreened(work, current))
    every = len(read_questions(work.db, work.task.name, split=work.split, limit=work.choices.test_limit))
    found = count_found(work)
    return State("questions", every - missing, missing, note=f"{found} overlap" if found else "")


def count_found(work: Run) -> int:
    """Questions of the evaluated split that were found somewhere."""
    return int(work.db.execute(_FOUND, {"task": work.task.name, "split": work.split}).fetchone()[0])


def screen(work: Run) -> int:
    """Look for what was not looked for; how many questions that was, found or not. All are kept at once."""
    current = against(work)
    questions = unscreened(work, current)
    if not questions:
        return 0
    sought, created = Sought(questions), now()
    found: list[dict[str, object]] = []
    for column, key, text in _texts(work):
        found += [
            {
                "question_id": overlap.question,
                "other_question_id": key if column == "question" else None,
                "passage_id": key if column == "passage" else None,
                "kind": overlap.kind,
                "share": overlap.share,
                "created": created,
            }
            for overlap in sought.within(text)
        ]
    with writing(work.db):
        # The row of an earlier check takes what it found with it.
        work.db.conn.executemany("delete from overlap_checks where question_id = ?", [(key,) for key in questions])
        checks = [{"question_id": key, "against": current, "created": created} for key in questions]
        insert_ignoring(work.db, "overlap_checks", checks)
        insert_ignoring(work.db, "overlaps", found)
    if overlapping := count_found(work):
        work.notes.append(
            f"{overlapping} {work.split} questions stand in training questions or passages, whole or in part;"
            f" see: kard query contamination --store {work.store}"
        )
    return len(questions)


def _texts(work: Run) -> Iterator[tuple[str, object, str]]:
    """Everything to look in: what it is, its id, its text."""
    training = "select id, text from questions where task = ? and split = 'train' order by id"
    for key, text in work.db.execute(training, [work.task.name]):
        yield "question", key, text
    for key, title, text in work.db.execute("select id, title, text from passages order by rowid"):
        yield "passage", key, f"{title}\n{text}"


SCREEN = Step(
    "screen",
    "evaluated questions whose text stands in training questions or passages",
    state,
    screen,
    f"delete from overlap_checks where question_id {OF_TASK}",
)
