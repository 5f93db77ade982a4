"""Stored texts read again by the parser as it is now, so that a better parser never costs another generation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from time import monotonic

from sqlite_utils import Database

from kard.answers.parsing import answer_of
from kard.answers.vote import majority
from kard.db import now, rows, writing
from kard.progress import SILENT, Progress
from kard.records import digest

READERS = ("parsing.py", "mentions.py")  # the modules that an answer is read by


@dataclass(frozen=True, slots=True)
class Text:
    """One stored text. `answer` is the letter that was read from it, None for none."""

    sample: int
    text: str
    answer: str | None
    forced: bool


@dataclass(frozen=True, slots=True)
class Voted:
    """A prediction and its texts."""

    id: int
    key: str
    options: tuple[str, ...]
    gold: str | None
    answer: str | None
    texts: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A prediction whose vote is another one now."""

    condition: str
    key: str
    gold: str | None
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class RescoredCondition:
    """A condition's texts, right answers and unreadable votes, before and after."""

    name: str
    questions: int
    texts: int
    reread: int  # texts whose answer is another one now
    right: tuple[int, int]
    unread: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rescored:
    """What reading again came to."""

    parser: str
    conditions: tuple[RescoredCondition, ...]
    changes: tuple[Change, ...]

    @property
    def reread(self) -> int:
        """Texts whose answer is another one now."""
        return sum(condition.reread for condition in self.conditions)


def parser_version() -> str:
    """A hash of the code that reads answers."""
    home = files("kard.answers")
    return digest(*(home.joinpath(name).read_text(encoding="utf-8") for name in READERS), length=12)


def read_again(voted: Voted) -> tuple[tuple[str | None, ...], str | None, int]:
    """The letters of its texts as the parser reads them now, their majority and its votes.

    A forced answer was chosen by its likelihood and not read: it stays.
    """
    letters = tuple(text.answer if text.forced else answer_of(text.text, voted.options) for text in voted.texts)
    return letters, *majority(letters)


def rescore(
    db: Database,
    task: str,
    split: str | None = None,
    *,
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> Rescored:
    """Read every stored text of the task (of one split) again; answers, votes and verdicts follow.

    Each condition is committed whole. The parser's version goes to `steps_log`, with how many texts it read
    otherwise; a second time nothing changes and nothing is written.
    """
    started, begin = now(), monotonic()
    conditions: list[RescoredCondition] = []
    changes: list[Change] = []
    found = [row for row in rows(db, "conditions") if row["task"] == task and split in (None, row["split"])]
    with progress.bar("reading again", len(found)) as advance:
        for row in found:
            condition, changed = _condition(db, row, dry_run=dry_run)
            conditions.append(condition)
            changes += changed
            advance(1)
    result = Rescored(parser_version(), tuple(conditions), tuple(changes))
    if not dry_run:
        _log(db, task, result, started, (monotonic() - begin) * 1000)
    return result


def _condition(db: Database, row: Mapping[str, object], *, dry_run: bool) -> tuple[RescoredCondition, list[Change]]:
    name = f"{row['size']}/{row['method']}/{row['retriever']} k={row['k']} seed={row['seed']} ({row['split']})"
    predictions = list(_predictions(rows(db, "stored_texts", evaluation=row["evaluation_id"])))
    changes: list[Change] = []
    reread = right_before = right = unread = 0
    with writing(db):
        for voted in predictions:
            letters, vote, votes = read_again(voted)
            different = [t.sample for t, letter in zip(voted.texts, letters, strict=True) if t.answer != letter]
            reread += len(different)
            right_before += voted.answer is not None and voted.answer == voted.gold
            right += vote is not None and vote == voted.gold
            unread += vote is None
            if vote != voted.answer:
                changes.append(Change(name, voted.key, voted.gold, voted.answer, vote))
            if different and not dry_run:
                _write(db, voted, letters, vote, votes)
    before = sum(voted.answer is None for voted in predictions)
    texts = sum(len(voted.texts) for voted in predictions)
    return (
        RescoredCondition(name, len(predictions), texts, reread, (right_before, right), (before, unread)),
        changes,
    )


def _predictions(found: Sequence[Mapping[str, object]]) -> Iterator[Voted]:
    for _, group in groupby(found, key=lambda row: row["prediction_id"]):
        some = list(group)
        first = some[0]
        texts = tuple(
            Text(int(str(row["sample"])), str(row["text"]), _letter(row["answer"]), bool(row["forced"]))
            for row in some
        )
        yield Voted(
            int(str(first["prediction_id"])),
            str(first["key"]),
            tuple(json.loads(str(first["options"]))),
            _letter(first["gold"]),
            _letter(first["vote"]),
            texts,
        )


def _letter(value: object) -> str | None:
    return None if value is None else str(value)


def _write(db: Database, voted: Voted, letters: Sequence[str | None], vote: str | None, votes: int) -> None:
    db.conn.executemany(
        "update samples set answer = ? where prediction_id = ? and sample = ?",
        [(letter, voted.id, text.sample) for letter, text in zip(letters, voted.texts, strict=True)],
    )
    db.execute(
        "update predictions set answer = ?, correct = ?, votes = ? where id = ?",
        [vote, int(vote is not None and vote == voted.gold), votes, voted.id],
    )


def _log(db: Database, task: str, result: Rescored, started: str, milliseconds: float) -> None:
    """Write down that this parser read the texts, once."""
    note = f"parser {result.parser}"
    known = "select 1 from steps_log where task = ? and step = 'rescore' and note = ?"
    if not result.reread and db.execute(known, [task, note]).fetchone():
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
