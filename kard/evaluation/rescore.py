"""Read stored texts again with the current parser, so that a better parser needs no new generation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from time import monotonic
from typing import Any

from sqlite_utils import Database

from kard.answers.parsing import answer_of
from kard.answers.short import grade
from kard.answers.vote import vote
from kard.db import now, rows, writing
from kard.methods import METHODS
from kard.progress import SILENT, Progress
from kard.records import digest

READERS = ("parsing.py", "mentions.py", "short.py")  # modules of kard.answers that decide how an answer is read


@dataclass(frozen=True, slots=True)
class StoredText:
    """A stored text of a student with the answer that was read from it, None for none."""

    sample: int
    text: str
    answer: str | None
    forced: bool
    shares: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredVote:
    """A stored prediction with its texts."""

    id: int
    key: str  # of the question
    options: tuple[str, ...]
    gold: str | None
    answer: str | None
    grade: tuple[int, float | None]  # 1 for the right answer, and F1
    texts: tuple[StoredText, ...]


@dataclass(frozen=True, slots=True)
class VoteChange:
    """A prediction whose vote has changed."""

    condition: str
    key: str  # of the question
    gold: str | None
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class RescoredCondition:
    """A condition's right answers and unreadable votes, before and after."""

    name: str
    questions: int
    texts: int
    reread: int  # texts whose answer has changed
    right: tuple[int, int]
    unread: tuple[int, int]


@dataclass(frozen=True, slots=True)
class RescoreResult:
    """The changes in all conditions."""

    parser: str
    conditions: tuple[RescoredCondition, ...]
    changes: tuple[VoteChange, ...]

    @property
    def reread(self) -> int:
        """Return the number of texts whose answer has changed."""
        return sum(condition.reread for condition in self.conditions)


def parser_version() -> str:
    """Return a hash of the code that reads answers."""
    folder = files("kard.answers")
    return digest(*(folder.joinpath(name).read_text(encoding="utf-8") for name in READERS), length=12)


def rescore(
    db: Database,
    task: str,
    split: str | None = None,
    *,
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> RescoreResult:
    """Read every stored text of the task (or of one split) again. Update answers, votes and correctness.

    A rule's texts are left out: nothing was read from them. Each condition is one transaction. `steps_log` gets the
    parser's version and the number of changed texts. A second run changes nothing and writes nothing.
    """
    started, begin = now(), monotonic()
    rescored: list[RescoredCondition] = []
    changes: list[VoteChange] = []
    conditions = [
        row
        for row in rows(db, "conditions")
        if row["task"] == task and split in (None, row["split"]) and not METHODS[row["method"]].rule
    ]
    with progress.bar("reading again", len(conditions)) as advance:
        for row in conditions:
            condition, changed = _rescore_condition(db, row, dry_run=dry_run)
            rescored.append(condition)
            changes += changed
            advance(1)
    result = RescoreResult(parser_version(), tuple(rescored), tuple(changes))
    if not dry_run:
        _log(db, task, result, started, (monotonic() - begin) * 1000)
    return result


def _rescore_condition(
    db: Database, row: Mapping[str, Any], *, dry_run: bool
) -> tuple[RescoredCondition, list[VoteChange]]:
    name = f"{row['size']}/{row['method']}/{row['retriever']} k={row['k']} seed={row['seed']} ({row['split']})"
    stored = list(_stored_votes(rows(db, "internal/stored_texts", evaluation=row["evaluation_id"])))
    changes: list[VoteChange] = []
    reread = right = unread = 0
    with writing(db):
        for prediction in stored:
            answers, vote, votes = read_again(prediction)
            changed = sum(text.answer != answer for text, answer in zip(prediction.texts, answers, strict=True))
            reread += changed
            graded = grade(vote, prediction.gold, prediction.options)
            right += graded[0]
            unread += vote is None
            if vote != prediction.answer:
                changes.append(VoteChange(name, prediction.key, prediction.gold, prediction.answer, vote))
            if (changed or graded != prediction.grade) and not dry_run:
                _update(db, prediction, answers, (vote, *graded, votes))
    right_before = sum(p.grade[0] for p in stored)
    unread_before = sum(p.answer is None for p in stored)
    texts = sum(len(p.texts) for p in stored)
    return (
        RescoredCondition(name, len(stored), texts, reread, (right_before, right), (unread_before, unread)),
        changes,
    )


def read_again(prediction: StoredVote) -> tuple[tuple[str | None, ...], str | None, int]:
    """Return the answers of the texts as the parser reads them now, their majority and its votes.

    An answer that was chosen by likelihood, forced or by the condition's own rule, was not read and stays.
    """
    answers = tuple(
        t.answer if t.forced or t.shares else answer_of(t.text, prediction.options) for t in prediction.texts
    )
    return answers, *vote(answers, [t.shares for t in prediction.texts])


def _stored_votes(texts: Sequence[Mapping[str, Any]]) -> Iterator[StoredVote]:
    """Yield the predictions of the rows of `stored_texts`, which are sorted by prediction."""
    for _, group in groupby(texts, key=lambda row: row["prediction_id"]):
        samples = list(group)
        first = samples[0]
        yield StoredVote(
            first["prediction_id"],
            first["key"],
            tuple(json.loads(first["options"])),
            first["gold"],
            first["vote"],
            (first["correct"], first["f1"]),
            tuple(
                StoredText(
                    row["sample"],
                    row["text"],
                    row["answer"],
                    bool(row["forced"]),
                    tuple(json.loads(row["shares"] or "[]")),
                )
                for row in samples
            ),
        )


def _update(
    db: Database,
    prediction: StoredVote,
    answers: Sequence[str | None],
    outcome: tuple[str | None, int, float | None, int],
) -> None:
    """Store the answers of the texts and their outcome: the vote, 1 if it is right, its F1 and its votes."""
    db.conn.executemany(
        "update samples set answer = ? where prediction_id = ? and sample = ?",
        [(answer, prediction.id, text.sample) for answer, text in zip(answers, prediction.texts, strict=True)],
    )
    db.execute(
        "update predictions set answer = ?, correct = ?, f1 = ?, votes = ? where id = ?",
        [*outcome, prediction.id],
    )


def _log(db: Database, task: str, result: RescoreResult, started: str, milliseconds: float) -> None:
    """Write once that this parser read the texts."""
    note = f"parser {result.parser}"
    logged = "select 1 from steps_log where task = ? and step = 'rescore' and note = ?"
    if not result.reread and db.execute(logged, [task, note]).fetchone():
        return
    with writing(db):
        db.table("steps_log").insert(
            {
                "task": task,
                "step": "rescore",
                "started": started,
                "milliseconds": milliseconds,
                "added": result.reread,
                "note": note,
            }
        )
