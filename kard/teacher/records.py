"""Teachers and their rationales as rows of the store, loaded from files and written to files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from sqlite_utils import Database

from kard.answers.parsing import conclusion
from kard.answers.short import same_answer
from kard.db import each, execute, insert_ignoring, now, rows, writing
from kard.errors import BadInput, Missing
from kard.files import Row, header_of, read_rows, write_lines
from kard.questions import RECORDED, QuestionSet
from kard.records import Question, Rationale, canonical, digest


@dataclass(frozen=True, slots=True)
class TeacherInfo:
    """A model that writes or judges rationales: the columns of `teachers` and `verifiers`, without the time."""

    id: str
    name: str
    model: str
    instructions: str
    sampling: str  # canonical JSON


@dataclass(frozen=True, slots=True)
class RecordedRationale:
    """A rationale that another program asked for, and where it stands in its file."""

    teacher: str  # name
    rationale: Rationale
    answer_given: bool | None = None  # whether the teacher saw the gold answer, if known
    at: str = ""  # file:line


class Stored(NamedTuple):
    """The numbers of rationales that a file or program gave to the store."""

    added: int
    replaced: int = 0


def store_teacher(db: Database, teacher: TeacherInfo, table: Literal["teachers", "verifiers"] = "teachers") -> None:
    """Add the teacher, unless the store has it."""
    insert_ignoring(db, table, [{**asdict(teacher), "created": now()}])


def rationale_row(question_id: int, question: Question, teacher_id: str, rationale: Rationale) -> dict[str, object]:
    """Return the row of a rationale, with its conclusion and whether that is the gold answer (section 3.1).

    The rationale's own `conclusion` counts, '' for none; without one, what its text concludes on.
    """
    concluded = rationale.conclusion
    if concluded is None:
        concluded = conclusion(rationale.text, question.options)
    return {
        "question_id": question_id,
        "teacher_id": teacher_id,
        "sample": rationale.sample,
        "text": rationale.text,
        "conclusion": concluded or None,
        "accepted": int(same_answer(concluded, question.answer)),
        "prompt_tokens": rationale.prompt_tokens,
        "completion_tokens": rationale.completion_tokens,
        "cost": rationale.cost,
        "milliseconds": rationale.milliseconds,
        "created": now(),
    }


def store_rationales(
    db: Database, task_name: str, teacher_name: str, rationales: Sequence[Rationale], *, replacing: bool = False
) -> Stored:
    """Store rationales as those of the teacher `recorded:NAME`, all or none.

    With `replacing`, a rationale that the store holds with another text gets this one; without, that raises
    BadInput, as do a question that is not in the store and two rationales of one question and sample.
    """
    name = _recorded_name(teacher_name)
    return _store(db, task_name, [RecordedRationale(name, rationale) for rationale in rationales], replacing)


def load_rationales(db: Database, task_name: str, path: Path, *, replacing: bool = False) -> Stored:
    """Load rows {question_id, sample, rationale, model, answer_given}, all or none.

    Each `model` becomes a teacher of its own, `recorded:MODEL`. `answer_given` is optional. Loading a file twice
    adds nothing. Raises BadInput, with the line, for a row that lacks a field, names a question that is not in
    the store, occurs twice, or, without `replacing`, contradicts the store.
    """
    recorded = [_parse(row, str(position), header_of(path)) for position, row in read_rows(path)]
    first: dict[tuple[str, str, int], str] = {}
    for row in recorded:
        key = (row.teacher, row.rationale.question_key, row.rationale.sample)
        if (other := first.setdefault(key, row.at)) != row.at:
            raise BadInput(
                f"sample {key[2]} of question {key[1]!r} stands at {other} too; give one another sample number",
                at=row.at,
            )
    return _store(db, task_name, recorded, replacing)


def export_rationales(db: Database, task_name: str, path: Path, teacher: str | None = None) -> int:
    """Write the rationales of a task, or of one teacher, as `load_rationales` reads them. Return their number.

    The same store gives the same bytes. The file appears when it is complete. Raises Missing if there are no
    rationales, BadInput for a name that does not end like JSON lines or for a missing folder.
    """
    chosen = {"task": task_name, "teacher": teacher}
    labels = _labels({row["id"]: row["model"] for row in rows(db, "internal/exported_teachers", **chosen)})
    if not labels:
        of = f" of {teacher}" if teacher else ""
        raise Missing(f"no rationales{of} for {task_name}; see the teachers with: kard query rationale_quality")
    found = each(db, "internal/exported_rationales", **chosen)
    # Those of a teacher that another command has added meanwhile are for the next export.
    return write_lines(path, (_fields(row, labels) for row in found if row["teacher_id"] in labels))


def _fields(row: Mapping[str, object], labels: Mapping[str, str]) -> Mapping[str, object]:
    fields: dict[str, object] = {
        "question_id": row["key"],
        "sample": row["sample"],
        "rationale": row["text"],
        "model": labels[str(row["teacher_id"])],
    }
    answer_given = json.loads(str(row["sampling"])).get("answer_given")
    return fields if answer_given is None else {**fields, "answer_given": answer_given}


def _labels(models: Mapping[str, str]) -> dict[str, str]:
    """Return the `model` of the file for each teacher id. The id tells teachers of one model apart."""
    plain = {teacher: model.removeprefix(RECORDED) for teacher, model in models.items()}
    counts = Counter(plain.values())
    return {t: label if counts[label] == 1 else f"{label}@{t[:8]}" for t, label in plain.items()}


def _recorded_name(name: str) -> str:
    return RECORDED + name.removeprefix(RECORDED)


def _parse(row: Row, at: str, header: str) -> RecordedRationale:
    """Return the rationale of a file's row. Raises BadInput, at the table's header for a column that is missing."""
    texts: dict[str, str] = {}
    for name in ("question_id", "rationale", "model"):
        value = row.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and name == "question_id":
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            problem, place = ("no field", header or at) if name not in row else ("no text in", at)
            raise BadInput(f"{problem} {name!r}; a row holds question_id, sample, rationale and model", at=place)
        texts[name] = value
    sample = row.get("sample")
    if isinstance(sample, str) and sample.isdecimal():  # a cell of a CSV
        sample = int(sample)
    if not isinstance(sample, int) or isinstance(sample, bool) or not 0 <= sample < 2**31:
        raise BadInput(f"field 'sample' must be a number from 0, not {sample!r}", at=at)
    answer_given = row.get("answer_given")
    if answer_given is not None and not isinstance(answer_given, bool):
        answer_given = {"true": True, "false": False}.get(str(answer_given).lower())
        if answer_given is None:
            raise BadInput("field 'answer_given' must be true or false", at=at)
    try:
        texts["rationale"].encode()
    except UnicodeEncodeError as error:
        raise BadInput("field 'rationale' holds half a character", at=at) from error
    rationale = Rationale(texts["question_id"], sample, texts["rationale"])
    return RecordedRationale(_recorded_name(texts["model"]), rationale, answer_given, at)


def _store(db: Database, task_name: str, recorded: Sequence[RecordedRationale], replacing: bool) -> Stored:
    questions = {question.key: (row_id, question) for row_id, question in QuestionSet(task_name).read(db).items()}
    teachers = _teachers(recorded)
    records: list[dict[str, object]] = []
    for row in recorded:
        key = row.rationale.question_key
        if key not in questions:
            raise BadInput(
                f"no question {key!r} of {task_name} in the store; "
                f"load the questions first with: kard load {task_name} FILE",
                at=row.at,
            )
        row_id, question = questions[key]
        # A recorded text says itself what it concludes on; what came with it counts where it says nothing.
        concluded = conclusion(row.rationale.text, question.options) or row.rationale.conclusion or ""
        rationale = replace(row.rationale, conclusion=concluded)
        records.append(rationale_row(row_id, question, teachers[row.teacher].id, rationale))
    with writing(db):
        for teacher in teachers.values():
            store_teacher(db, teacher)
        # Written first and compared then: the lock is held from the start, and a conflict rolls all of it back.
        added = insert_ignoring(db, "rationales", records)
        replaced = 0
        for row, record in zip(recorded, records, strict=True):
            (text,) = db.execute(
                "select text from rationales where question_id = ? and teacher_id = ? and sample = ?",
                [record["question_id"], record["teacher_id"], record["sample"]],
            ).fetchone()
            if text == record["text"]:
                continue
            if not replacing:
                raise BadInput(
                    f"sample {row.rationale.sample} of question {row.rationale.question_key!r} is in the store "
                    f"with another text; take this one with: --replace, or give it another sample number or model",
                    at=row.at,
                )
            replaced += execute(db, "internal/replace_rationale", **record)
    return Stored(added, replaced)


def _teachers(recorded: Sequence[RecordedRationale]) -> dict[str, TeacherInfo]:
    """Return the teachers by name; `answer_given` is stored if all rows of a teacher agree on it."""
    answer_given: dict[str, set[bool | None]] = {}
    for row in recorded:
        answer_given.setdefault(row.teacher, set()).add(row.answer_given)
    teachers: dict[str, TeacherInfo] = {}
    for name, values in answer_given.items():
        agreed = values.pop() if len(values) == 1 else None
        sampling = canonical({} if agreed is None else {"answer_given": agreed})
        teachers[name] = TeacherInfo(digest("recorded", name), name, name, "", sampling)
    return teachers
