"""Rationales in and out of files: a teacher that was asked once need not be asked again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlite_utils import Database

from kard.db import insert_ignoring, rows, writing
from kard.errors import BadInput, Missing
from kard.files import Row, read_rows, write_lines
from kard.questions import RECORDED, read_questions
from kard.records import Question, Rationale
from kard.teacher.records import TeacherInfo, keep_teacher, record, recorded


@dataclass(frozen=True, slots=True)
class Recorded:
    """A rationale of a file and where it stands there; '' when it came from no file."""

    teacher: str
    rationale: Rationale
    answer_given: bool | None = None
    at: str = ""


def store_rationales(db: Database, task_name: str, teacher_name: str, rationales: Sequence[Rationale]) -> int:
    """Keep rationales as those of the teacher `recorded:NAME`; the number that were new.

    All are kept or none. Raises BadInput for a question that the store does not hold, for two rationales of
    one question and sample, and for one that the store holds with another text.
    """
    return _store(db, task_name, [Recorded(_label(teacher_name), rationale) for rationale in rationales])


def load_rationales(db: Database, task_name: str, path: Path) -> int:
    """Load rows {question_id, sample, rationale, model, answer_given}; the number that were new.

    Each `model` is a teacher of its own, `recorded:MODEL`. `answer_given` may be left out. Loading a file
    twice equals once. Raises BadInput with the line, and changes nothing, for a row that lacks a field, names
    no question of the store, stands twice, or contradicts what the store holds.
    """
    read = [_row(row, str(place)) for place, row in read_rows(path)]
    first: dict[tuple[str, str, int], str] = {}
    for one in read:
        key = (one.teacher, one.rationale.question_key, one.rationale.sample)
        if (other := first.setdefault(key, one.at)) != one.at:
            raise BadInput(
                f"sample {key[2]} of question {key[1]!r} stands at {other} too; give one another sample number",
                at=one.at,
            )
    return _store(db, task_name, read)


def export_rationales(db: Database, task_name: str, path: Path, teacher: str | None = None) -> int:
    """Write the rationales of a task, or of one of its teachers, as `load_rationales` reads them; their number.

    The same store gives the same bytes. The file appears when it is whole. Raises Missing when there is
    nothing to write, BadInput for a name that does not end as JSON lines do or a folder that is not there.
    """
    found = rows(db, "exported_rationales", task=task_name, teacher=teacher)
    if not found:
        whose = f" of {teacher}" if teacher else ""
        raise Missing(
            f"no rationales{whose} for {task_name}; see whose there are with: kard query rationale_quality"
        )
    labels = _labels({str(row["teacher_id"]): str(row["model"]) for row in found})
    return write_lines(path, [_fields(row, labels) for row in found])


def _fields(row: Mapping[str, object], labels: Mapping[str, str]) -> Mapping[str, object]:
    fields: dict[str, object] = {
        "question_id": row["key"],
        "sample": row["sample"],
        "rationale": row["text"],
        "model": labels[str(row["teacher_id"])],
    }
    given = json.loads(str(row["sampling"])).get("answer_given")
    return fields if given is None else {**fields, "answer_given": given}


def _labels(models: Mapping[str, str]) -> dict[str, str]:
    """Teacher id to the `model` of its rows; teachers that share a model are told apart by their ids."""
    plain = {teacher: model.removeprefix(RECORDED) for teacher, model in models.items()}
    several = Counter(plain.values())
    return {t: label if several[label] == 1 else f"{label}@{t[:8]}" for t, label in plain.items()}


def _label(name: str) -> str:
    return RECORDED + name.removeprefix(RECORDED)


def _row(row: Row, at: str) -> Recorded:
    """A row as what it stands for. Raises BadInput."""
    texts: dict[str, str] = {}
    for name in ("question_id", "rationale", "model"):
        value = row.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and name == "question_id":
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            problem = "no field" if name not in row else "no text in"
            raise BadInput(f"{problem} {name!r}; a row holds question_id, sample, rationale and model", at=at)
        texts[name] = value
    sample = row.get("sample")
    if isinstance(sample, str) and sample.isdecimal():  # a cell of a CSV
        sample = int(sample)
    if not isinstance(sample, int) or isinstance(sample, bool) or not 0 <= sample < 2**31:
        raise BadInput(f"field 'sample' must be a number from 0, not {sample!r}", at=at)
    given = row.get("answer_given")
    if given is not None and not isinstance(given, bool):
        given = {"true": True, "false": False}.get(str(given).lower())
        if given is None:
            raise BadInput("field 'answer_given' must be true or false", at=at)
    try:
        texts["rationale"].encode()
    except UnicodeEncodeError as error:
        raise BadInput("field 'rationale' holds half a character", at=at) from error
    return Recorded(_label(texts["model"]), Rationale(texts["question_id"], sample, texts["rationale"]), given, at)


def _store(db: Database, task_name: str, read: Sequence[Recorded]) -> int:
    known = {question.key: (row_id, question) for row_id, question in read_questions(db, task_name)}
    teachers = _teachers(read)
    records = [_record(known, task_name, teachers[one.teacher].id, one) for one in read]
    with writing(db):
        for teacher in teachers.values():
            keep_teacher(db, teacher)
        # Written first and compared then: the lock is held from the start, and a conflict rolls all of it back.
        added = insert_ignoring(db, "rationales", records)
        for one, row in zip(read, records, strict=True):
            kept = db.execute(
                "select text from rationales where question_id = ? and teacher_id = ? and sample = ?",
                [row["question_id"], row["teacher_id"], row["sample"]],
            ).fetchone()
            if kept[0] != row["text"]:
                raise BadInput(
                    f"sample {one.rationale.sample} of question {one.rationale.question_key!r} is in the store "
                    f"with another text; give it another sample number or model",
                    at=one.at,
                )
    return added


def _record(
    known: Mapping[str, tuple[int, Question]], task_name: str, teacher_id: str, one: Recorded
) -> dict[str, object]:
    if one.rationale.question_key not in known:
        raise BadInput(
            f"no question {one.rationale.question_key!r} of {task_name} in the store; "
            f"load the questions first with: kard load {task_name} FILE",
            at=one.at,
        )
    row_id, question = known[one.rationale.question_key]
    return record(row_id, question, teacher_id, one.rationale)


def _teachers(read: Sequence[Recorded]) -> dict[str, TeacherInfo]:
    """The teachers by name; `answer_given` is kept where all rows of a teacher agree on it."""
    given: dict[str, set[bool | None]] = {}
    for one in read:
        given.setdefault(one.teacher, set()).add(one.answer_given)
    return {name: recorded(name, next(iter(said)) if len(said) == 1 else None) for name, said in given.items()}
