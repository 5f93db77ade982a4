"""Rows of `students`: written, found by what a person says, and their settings read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kard.config import Lora, Prompting, Settings, StudentTraining, TaskSettings
from kard.db import insert_ignoring, now, rows, writing
from kard.errors import BadConfig, Missing
from kard.methods import METHODS, NO_MODEL, Method
from kard.recipes import Recipe, TrainingData, read_recipe, recipe_column, recipe_id, recipe_of, stored_settings
from kard.records import canonical
from kard.student.examples import RationaleSource, hash_texts, shot_data

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.models.bases import Base
    from kard.tasks import Task

RULE_SETTINGS = "{}"
SHOTS = "shots"  # in the settings of a prompted base
SOURCE = ("teacher_id", "accept", "rationale_form")  # there, if it is shown examples


@dataclass(frozen=True, slots=True)
class StudentRow:
    """A row of `students`, without its time. The defaults are those of a base that is only prompted."""

    id: str
    task: str
    method: str
    size: str
    base: str  # spec
    base_sha256: str
    settings: str  # canonical JSON
    data_sha256: str
    seed: int
    examples: int
    recipe: str = "{}"  # canonical JSON
    tokens: int = 0  # seen, prompt and target
    loss: float = 0.0
    path: str = ""  # of the adapter's folder, relative to the store's
    sha256: str = ""  # of the adapter's weights
    milliseconds: float = 0.0
    cut: float = 0.0  # share of the training prompts that lost passage text
    target_tokens: int = 0  # of the longest target
    long_targets: int = 0  # targets of more than `max_target` tokens, of questions without a shorter one


@dataclass(frozen=True, slots=True)
class StudentInfo:
    """The identity of a student, wherever its files lie."""

    id: str
    sha256: str  # of the adapter's weights
    base: str  # spec
    base_sha256: str
    method: str
    settings: StudentTraining
    task: str = ""
    size: str = ""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> StudentInfo:
        """Return the identity of the student in a row of `students`."""
        names = ("id", "sha256", "base", "base_sha256", "method", "task", "size")
        return cls(settings=parse_settings(row["settings"]), **{name: row[name] for name in names})

    def __str__(self) -> str:
        words = (self.task, self.size, self.method, f"seed {self.settings.seed}")
        return f"{self.id} ({', '.join(word for word in words if word)})"


def store_student(db: Database, student: StudentRow) -> None:
    """Add the student. One that the store has keeps its answers: its base has moved, or its adapter was lost."""
    if not insert_ignoring(db, "students", [{**asdict(student), "created": now()}]):
        with writing(db):
            db.table("students").update(student.id, {"base": student.base, "sha256": student.sha256})


def student_recipe(
    task: str, size: str, base: Base, method: Method, settings: Settings, data: TrainingData
) -> Recipe:
    """Return the recipe of the student that this base becomes."""
    return recipe_of(
        "student",
        data,
        task=task,
        size=size,
        method=method.name,
        base=base.spec,
        base_sha256=base.sha256,
        settings=settings.values(),
    )


def find_student(
    db: Database,
    student: str | None,
    *,
    task: str | None = None,
    size: str | None = None,
    method: str | None = None,
) -> Mapping[str, Any]:
    """Return the row of a student, the newest of its kind. `student` is an id or the beginning of one.

    Raises Missing if there is none, BadConfig for a rule, or if several tasks, sizes or methods could be meant.
    """
    students = rows(db, "internal/find_students", student=student, task=task, size=size, method=method)
    if not students:
        words = ", ".join(word for word in (student, task, size, method) if word)
        trained = method is None or method not in METHODS or METHODS[method].trained
        command = f"train student {task or 'TASK'}" if trained else f"evaluate {task or 'TASK'} --student {method}"
        raise Missing(
            f"no student{f' ({words})' if words else ''} in the store; see them with: kard models, "
            f"or {'train' if trained else 'prompt'} one with: kard {command}"
        )
    kinds = {(row["task"], row["size"], row["method"]) for row in students}
    if len(kinds) > 1 or (student is not None and len(students) > 1):
        listed = "; ".join(f"{row['id']} ({row['task']}, {row['size']}, {row['method']})" for row in students[:6])
        raise BadConfig(f"{len(students)} students could be meant; name one by id, task, size or method: {listed}")
    if (rule := students[0]["method"]) in METHODS and METHODS[rule].rule:
        command = f"kard evaluate {students[0]['task']} --student {rule}"
        raise BadConfig(f"{rule} is a rule and has no model; let it answer with: {command}")
    return students[0]


def parse_settings(text: str) -> StudentTraining:
    """Return the settings of a `settings` column; of a base that is only prompted, those that training has too."""
    with stored_settings("a student"):
        values: dict[str, Any] = json.loads(text)
        if SHOTS in values:
            return StudentTraining(max_length=values["max_length"], **_of_examples(values))
        return StudentTraining(lora=Lora(**values.pop("lora")), **values)


def settings_column(method: Method, settings: TaskSettings, source: RationaleSource) -> str:
    """Return the `settings` column of a student of that method, trained or not."""
    if method.trained:
        return canonical(method.training(settings).values())
    return RULE_SETTINGS if method.rule else prompted_settings(method, settings.prompting, source)


def prompted_settings(method: Method, prompting: Prompting, source: RationaleSource) -> str:
    """Return the `settings` column of a prompted base; a method with shots also names which rationales it shows.

    Without shots, what decides on examples is left out.
    """
    if not method.shots:
        return canonical({SHOTS: 0, "max_length": prompting.max_length})
    return canonical({**prompting.values(), **{name: getattr(source, name) for name in SOURCE}})


def _of_examples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in ("k", "seed") if name in values}


def parse_prompted(row: Mapping[str, Any]) -> tuple[Prompting, RationaleSource]:
    """Return how the prompted base in a row of `students` is asked, and where its examples come from."""
    with stored_settings(f"student {row['id']}"):
        values: dict[str, Any] = json.loads(row["settings"])
        prompting = Prompting(max(1, values[SHOTS]), max_length=values["max_length"], **_of_examples(values))
        data = read_recipe(row["recipe"]).get("data", {})
        considered = {name: data[name] for name in ("limit", "fraction", "draw") if name in data}
        return prompting, RationaleSource(**{name: values[name] for name in SOURCE if name in values}, **considered)


def register_rule(db: Database, task_name: str, method: Method) -> str:
    """Add a row for a rule, which has no model and no settings; return its id, the same one the next time."""
    data = TrainingData(hash_texts([]), 0, 0, None, None)
    recipe = recipe_of("student", data, task=task_name, size=NO_MODEL, method=method.name, settings={})
    student = StudentRow(
        id=recipe_id(recipe),
        task=task_name,
        method=method.name,
        size=NO_MODEL,
        base="",
        base_sha256="",
        settings=RULE_SETTINGS,
        data_sha256=data.sha256,
        seed=0,
        examples=0,
        recipe=recipe_column(recipe),
    )
    store_student(db, student)
    return student.id


def register_prompted(
    db: Database, task: Task, size: str, base: Base, method: Method, prompting: Prompting, source: RationaleSource
) -> str:
    """Add a row for a base that is only prompted; return its id, the same one the next time.

    Raises Missing if the method shows rationales and the store has no accepted ones.
    """
    data = shot_data(db, task.name, method, prompting, source)
    settings = prompted_settings(method, prompting, source)
    recipe = {**student_recipe(task.name, size, base, method, prompting, data), "settings": json.loads(settings)}
    student = StudentRow(
        id=recipe_id(recipe),
        task=task.name,
        method=method.name,
        size=size,
        base=base.spec,
        base_sha256=base.sha256,
        settings=settings,
        data_sha256=data.sha256,
        seed=prompting.seed if method.shots else 0,
        examples=data.questions,
        recipe=recipe_column(recipe),
    )
    store_student(db, student)
    return student.id
