"""Load questions into the store: a file is read whole and checked, then all of it goes in or nothing."""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kard.answers.mentions import alike
from kard.db import insert_ignoring, now, rows, writing
from kard.errors import BadInput
from kard.files import Row, header_of, read_rows, refuse
from kard.files.tables import Fields
from kard.pipeline.replace import (
    UNCHANGED,
    Changes,
    Lost,
    compare,
    content,
    content_hash,
    lost_with,
    remove_questions,
    replace_question,
)
from kard.progress import SILENT, Progress
from kard.questions import RECORDED, QuestionSet
from kard.records import Question, Rationale
from kard.tasks import Task, names

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.teacher.records import Stored


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """The numbers of what a file gave to the store."""

    added: int  # questions
    unchanged: int  # questions that were there already, or stand in the file more than once
    rationales: int  # of a `rationale` column, that the store did not have
    splits: Mapping[str, int]  # questions of the file in each split
    skipped: tuple[str, ...] = ()  # what is wrong with each row that was left out, with its place
    replaced: int = 0  # questions that the store had with another content
    replaced_rationales: int = 0
    removed: int = 0  # questions of these splits that the file lacks
    others: Mapping[str, int] = field(default_factory=dict[str, int])  # those that stay, in each split


@dataclass(frozen=True, slots=True)
class LocatedQuestion:
    """A question with the file and line it was read from, as errors show them; '' if it came from no file."""

    question: Question
    at: str = ""


def load_questions(
    db: Database,
    task: Task,
    path: Path,
    *,
    split: str | None = None,
    skip_bad: bool = False,
    replacing: bool = False,
    confirm: Callable[[Lost], None] | None = None,
    progress: Progress = SILENT,
) -> LoadSummary:
    """Load a file of questions; `split` is for rows that name none. Loading a file twice changes nothing.

    The gold passages that the questions name are kept as evidence, and rationales that came with them as those of
    the teacher `recorded:FILE`. With `skip_bad`, rows that are no question, and those whose id stood for another
    one before, are left out. With `replacing`, a question that the store has gets the file's content. With
    `confirm`, questions of the file's splits that the file lacks are removed too; it is told before what goes, if
    anything does, and may raise to keep everything. Raises BadInput, and changes nothing, for a row that is no
    question of the task, for a split that nobody names, and for an id that stands for two questions.
    """
    skipped: list[str] = []

    def skip(error: BadInput) -> None:
        skipped.append(str(error))

    bad = skip if skip_bad else _refuse_file
    located = read_file(task, path, split=split, bad=bad, progress=progress)
    changes = Changes(replacing or confirm is not None, confirm)
    summary = _store(db, task.name, located, RECORDED + path.name.split(".")[0], bad, changes)
    return replace(summary, skipped=tuple(skipped))


def _refuse_file(error: BadInput) -> NoReturn:
    """Raise what is wrong with a row, with the option that leaves it out."""
    raise BadInput(f"{error}; leave such rows out with: --skip-bad") from error


def store_questions(db: Database, task_name: str, questions: Sequence[Question]) -> LoadSummary:
    """Store questions that come from no file. Raises BadInput, and changes nothing, if one is not valid."""
    for question in questions:
        try:
            _check(question)
        except ValueError as error:
            raise BadInput(f"question {question.key!r}: {error}") from error
    return _store(db, task_name, [LocatedQuestion(question) for question in questions], RECORDED + task_name)


def read_file(
    task: Task,
    path: Path,
    *,
    split: str | None = None,
    bad: Callable[[BadInput], None] = refuse,
    progress: Progress = SILENT,
) -> list[LocatedQuestion]:
    """Return every question of the file with its line; `bad` is called with what is wrong with a row.

    Raises BadInput if the file cannot be read, if it has no question of the task, or if a row names no split.
    """
    located: list[LocatedQuestion] = []
    with progress.bar(f"reading {path.name}", None) as advance:
        for place, row in read_rows(path, bad):
            advance(1)
            try:
                question = _parse(task, row, split)
            except BadInput as error:  # of the whole file
                raise BadInput(str(error), at=str(place)) from error
            except (ValueError, KeyError) as error:
                problem = f"no field {error}" if isinstance(error, KeyError) else str(error)
                lacking = re.findall(r"'([^']*)'", problem) if problem.startswith("no field") else []
                if lacking:
                    problem += f" among {', '.join(map(repr, row))}"
                problem += f"; see what a row holds with: kard tasks {_argument(task)}"
                if lacking and header_of(path) and not any(name in row for name in lacking):
                    raise BadInput(problem, at=header_of(path)) from error
                bad(BadInput(problem, at=str(place)))
                continue
            if question is None:
                continue
            if not question.split:
                raise BadInput(
                    "the row names no split; give one with: --split train (or dev, or test)", at=str(place)
                )
            located.append(LocatedQuestion(question, str(place)))
    if not located:
        raise BadInput(f"no row is a question of {task.name}; name another task or file", at=str(path))
    return located


def _parse(task: Task, row: Row, split: str | None) -> Question | None:
    """Return the row's question; its split is the row's own, else the given one, else what `parse` chooses."""
    if split and row.get("split") in (None, ""):
        row = Fields({**row, "split": split})
    question = task.parse(row)
    if question is None:
        return None
    if split and not question.split:
        question = replace(question, split=split)
    if not question.options and "options" in task.answer.input_fields:
        raise ValueError("there are no options, but the task's students choose one")
    _check(question)
    return question


def _check(question: Question) -> None:
    """Raise ValueError if the question is not valid, whoever parsed it."""
    if not question.key.strip():
        raise ValueError("the id is empty")
    if not question.text.strip():
        raise ValueError("the question is empty")
    if question.options:
        _check_options(question)
    elif question.answer is not None and not _visible(question.answer):
        raise ValueError("the answer is empty")
    try:
        content(question).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"holds half a character (\\u{ord(error.object[error.start]):04x})") from error


def _check_options(question: Question) -> None:
    if not 2 <= len(question.letters) == len(question.options):
        raise ValueError(f"the number of options is {len(question.options)}, not 2 to 26")
    if same := alike(question.options):
        raise ValueError(f"options {same[0]!r} and {same[1]!r} are alike")
    if question.answer is not None and question.answer not in tuple(question.letters):
        raise ValueError(f"answer {question.answer!r} is not one of {', '.join(question.letters)}")


def _visible(text: str) -> bool:
    """Return whether a text shows anything."""
    return any(character.isprintable() and not character.isspace() for character in text)


def _argument(task: Task) -> str:
    """Return what the command line calls the task: its name, or the file that a person gave."""
    file = inspect.getsourcefile(task.parse)
    return task.name if task.name in names() or file is None else file


def _record(task_name: str, question: Question, created: str) -> dict[str, object]:
    return {
        "task": task_name,
        "key": question.key,
        "split": question.split,
        "text": question.text,
        "options": json.dumps(question.options, ensure_ascii=False),
        "answer": question.answer,
        "kind": question.kind,
        "facts": json.dumps(question.facts, ensure_ascii=False),
        "hash": content_hash(question),
        "created": created,
    }


def _store(
    db: Database,
    task_name: str,
    located: Sequence[LocatedQuestion],
    teacher: str,
    bad: Callable[[BadInput], None] = refuse,
    changes: Changes = UNCHANGED,
) -> LoadSummary:
    located = list(_consistent(located, bad))
    first: dict[str, LocatedQuestion] = {}
    for item in located:
        first.setdefault(item.question.key, item)
    questions = [item.question for item in first.values()]
    splits = Counter(question.split for question in questions)
    if changes.confirm and (lost := lost_with(db, compare(db, task_name, questions).others)).questions:
        changes.confirm(lost)
    created = now()
    with writing(db):
        replaced = 0
        if changes.replacing:
            known = compare(db, task_name, questions)
            remove_questions(db, known.given_way)
            for row_id, (old, new) in known.changed.items():
                replace_question(db, row_id, old, new, _record(task_name, new, created))
            replaced = len(known.changed)
        # Written first and compared then: the lock is held from the start, and a conflict rolls all of it back.
        added = insert_ignoring(db, "questions", [_record(task_name, q, created) for q in questions])
        ids = _unchanged_ids(db, task_name, first)
        insert_ignoring(
            db,
            "evidence",
            [{"question_id": ids[q.key], "document": name} for q in questions for name in q.evidence],
        )
        rationales = _store_rationales(db, task_name, teacher, questions, changes.replacing)
        stored = db.execute("select id, key, split from questions where task = ?", [task_name]).fetchall()
        others = {row_id: split for row_id, key, split in stored if key not in first and split in splits}
        if changes.confirm:
            remove_questions(db, others)
    return LoadSummary(
        added,
        len(located) - added - replaced,
        rationales.added,
        splits,
        replaced=replaced,
        replaced_rationales=rationales.replaced,
        removed=len(others) if changes.confirm else 0,
        others={} if changes.confirm else Counter(others.values()),
    )


def _consistent(located: Sequence[LocatedQuestion], bad: Callable[[BadInput], None]) -> Iterator[LocatedQuestion]:
    """Yield the questions, but call `bad` for one whose key stood for another before."""
    first: dict[str, LocatedQuestion] = {}
    for item in located:
        earlier = first.setdefault(item.question.key, item)
        if earlier is not item and (field := _difference(item.question, earlier.question)):
            where = earlier.at or "an earlier question"
            problem = f"id {item.question.key!r} stands at {where} too, with another {field}; give one another id"
            bad(BadInput(problem, at=item.at))
        else:
            yield item


def _unchanged_ids(db: Database, task_name: str, first: Mapping[str, LocatedQuestion]) -> dict[str, int]:
    """Return row ids by key. Raises BadInput if the store holds another question under one of the keys."""
    # A key may hold any character, and SQLite's JSON ends a text at U+0000: so keys are compared here.
    columns = db.query("select id, key, hash from questions where task = ?", [task_name])
    stored = [row for row in columns if row["key"] in first]
    for row in stored:
        if row["hash"] != content_hash(first[row["key"]].question):
            _refuse(db, task_name, row["id"], first[row["key"]])
    return {row["key"]: row["id"] for row in stored}


def _refuse(db: Database, task_name: str, row_id: int, item: LocatedQuestion) -> None:
    stored = QuestionSet(task_name).read(db)[row_id]
    field = _difference(item.question, stored) or "content"
    remedy = "take the file's with: --replace, or give this row another id" if item.at else "give it another id"
    raise BadInput(f"id {item.question.key!r} is in the store with another {field}; {remedy}", at=item.at)


def _difference(question: Question, other: Question) -> str:
    """Return the first field, in a person's words, in which two questions differ; '' if they are equal."""
    fields = {"text": "text", "options": "list of options", "answer": "answer", "split": "split"}
    for name, words in {**fields, "facts": "list of facts", "kind": "kind"}.items():
        if getattr(question, name) != getattr(other, name):
            return words
    return "" if set(question.evidence) == set(other.evidence) else "list of evidence"


def _writer(db: Database, task_name: str, explanations: Mapping[str, str], replacing: bool) -> str:
    """Return the recorded teacher who has most of these explanations by question, '' if none has any.

    So the copy of a file under another name is no second teacher. Who has another text for one of the questions is
    left out unless `replacing`.
    """
    same, others = Counter[str](), set[str]()
    for row in rows(db, "internal/recorded_explanations", task=task_name):
        if row["key"] in explanations:
            if row["text"] == explanations[row["key"]]:
                same[row["name"]] += 1
            else:
                others.add(row["name"])
    names = [name for name in same if replacing or name not in others]
    return max(names, key=lambda name: same[name], default="")


def _store_rationales(
    db: Database, task_name: str, teacher: str, questions: Sequence[Question], replacing: bool
) -> Stored:
    """Store the file's explanations as rationales that conclude on the gold answer."""
    from kard.teacher.records import Stored, store_rationales

    rationales = [Rationale(q.key, 0, q.rationale, q.answer) for q in questions if q.rationale and q.answer]
    if not rationales:
        return Stored(0)
    teacher = _writer(db, task_name, {r.question_key: r.text for r in rationales}, replacing) or teacher
    try:
        return store_rationales(db, task_name, teacher, rationales, replacing=replacing)
    except BadInput as error:
        # The file's name is the teacher's: a changed explanation can only be another teacher's.
        raise BadInput(f"{error}; an explanation of somebody else belongs in a file of another name") from error
