"""Students and task programs out of a store, for people who write Python."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import dspy

from kard import tasks
from kard.api.lm import StudentInfo, StudentLM, reduced, with_student
from kard.config import METHODS, Decoding, Retrieval
from kard.db import open_store, rows
from kard.errors import BadConfig, BadInput, Missing, NoBase, NoTask
from kard.files import adapters_folder
from kard.models import bases
from kard.models.adapters import WEIGHTS, hash_of
from kard.records import Passage
from kard.retrieval.live import LiveRetriever, fusion_for, no_reranker
from kard.student.generation.engine import StudentEngine
from kard.student.generation.student import Student, resident, settings_of
from kard.tasks import Task

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.knowledge.knowledge_base import KnowledgeBase

FACTS = "kard.json"  # in a published folder: which student it is
READERS = ("none", "bm25", "reranker", "fused")  # retrievers that a new question can be given


def load_student(
    store: str | Path,
    student: str | None = None,
    *,
    task: str | Task | None = None,
    size: str | None = None,
    method: str | None = None,
    decoding: Decoding | None = None,
    adapters: Path | None = None,
    base: str | None = None,
) -> StudentLM:
    """A `dspy.LM` that answers with a student of the store, or of a folder that `kard models export` wrote.

    `student` is an id, or the beginning of one, as `kard models` shows it; without it, the newest student of that
    task, size and method. `decoding` is the task's own unless given. Nothing of the base is loaded again when
    another student over it is loaded. `base` says where a folder's base lies when it is no public one. Raises
    Missing when there is no such student or its adapter is not what was trained, BadConfig when several might be
    meant, NoBase when the base cannot be had.
    """
    path = Path(store)
    if path.is_dir():
        return _published(path, base, decoding)
    known = _task_of(task)
    name = known.name if known is not None else task if isinstance(task, str) else None
    db = open_store(path, create=False)
    try:
        row = find(db, student, task=name, size=size, method=method)
        loaded = Student.load(db, str(row["id"]), adapters or adapters_folder(path))
    finally:
        db.close()
    known = known or _known_task(str(row["task"]))
    signature = None if known is None else reduced(known.answer, METHODS[str(row["method"])])
    if decoding is None:
        decoding = known.settings.decoding if known is not None else decoding_for(_told(loaded.adapter))
    return StudentLM(loaded, decoding, identity_of(row), signature)


def load_program(
    store: str | Path,
    task: str | Task,
    *,
    student: str | None = None,
    size: str | None = None,
    method: str = "kard",
    retriever: str | None = None,
    k: int | None = None,
    knowledge: Path | None = None,
    adapters: Path | None = None,
    decoding: Decoding | None = None,
) -> dspy.Module:
    """The task's inference program (section 3.4) over a student: `program(question=..., options=[...])`.

    It retrieves from the knowledge base beside the store, reranks, lets the student reason and answer. `retriever`
    is `bm25`, `reranker` or `fused`; by default the reranker where the store has one for this knowledge base, of
    the student's seed where it has that. A method that reads nothing retrieves nothing. `task` is a name, the path
    of a task's file, or a `Task`. The program is an ordinary dspy.Module; see `with_student` for what it saves.
    Raises as `load_student` does.
    """
    path, known = Path(store), task if isinstance(task, Task) else tasks.load(task)
    lm = load_student(
        path,
        student,
        task=known,
        size=size,
        method=None if student else method,
        decoding=decoding,
        adapters=adapters,
    )
    chosen = METHODS[lm.identity.method]
    reads = chosen.reads and retriever != "none"
    if retriever is not None and retriever not in READERS:
        raise BadConfig(f"retriever must be one of {', '.join(READERS)} for a new question, not {retriever}")
    if retriever not in (None, "none") and not chosen.reads:
        raise BadConfig(f"method {chosen.name} reads no passages; leave the retriever out")
    retrieve = None
    if reads:
        settings = known.settings.retrieval
        retrieve = _retrieve(
            path,
            known,
            settings if k is None else Retrieval(**{**settings.values(), "k": k}),  # pyright: ignore[reportArgumentType]  # its own values
            retriever,
            lm.identity.settings.seed,
            knowledge or path.with_suffix(".knowledge"),
            adapters or adapters_folder(path),
        )
    program = with_student(known.program(known.answer, retrieve), lm)
    if chosen.shots:
        _show(program, path, known, lm, retrieve)
    return program


def _published(folder: Path, base: str | None, decoding: Decoding | None) -> StudentLM:
    """The student of a published folder. Raises BadInput when it is none, Missing or NoBase when it has changed."""
    try:
        told = cast("dict[str, Any]", json.loads((folder / FACTS).read_text("utf-8")))
        row = {
            **told,
            "id": told["student"],
            "sha256": told["adapter_sha256"],
            "settings": json.dumps(told["settings"]),
        }
        known, merged = identity_of(row), bool(told["merged"])
        method = METHODS[known.method]
    except FileNotFoundError:
        raise BadInput(
            f"no {FACTS}: not a student that kard wrote; name a store or such a folder", at=str(folder)
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"cannot be read ({error!r}); export the student again", at=str(folder / FACTS)) from error
    if not merged and hash_of(folder / WEIGHTS) != known.sha256:
        raise Missing(f"{folder / WEIGHTS} is not what was trained (its hash differs); export the student again")
    found = bases.resolve(str(folder) if merged else base or known.base)
    if found.sha256 != (told.get("weights_sha256") if merged else known.base_sha256):
        raise NoBase(
            f"{found.spec} has other weights than student {known.id} was trained on; name another with base="
        )
    task = _known_task(known.task)
    student = Student(resident(found), None if merged else folder, known.settings, name=known.id)
    signature = None if task is None else reduced(task.answer, method)
    if decoding is None:
        decoding = task.settings.decoding if task is not None else decoding_for(told)
    return StudentLM(student, decoding, known, signature)


def decoding_for(told: Mapping[str, Any]) -> Decoding:
    """Greedy, with room for the longest text that the student was taught to write."""
    longest = int(told.get("longest") or told.get("training", {}).get("longest") or 0)
    return Decoding(max_new_tokens=max(Decoding().max_new_tokens, longest))


def _told(adapter: Path | None) -> Mapping[str, Any]:
    """What stands beside an adapter that no task of the store taught; nothing beside others."""
    if adapter is None or not (adapter / FACTS).exists():
        return {}
    return cast("Mapping[str, Any]", json.loads((adapter / FACTS).read_text("utf-8")))


def _show(program: dspy.Module, store: Path, task: Task, lm: StudentLM, reading: _Reading | None) -> None:
    """Give a base that is only prompted the worked examples that evaluation shows it."""
    from kard.student.generation.prompted import Prompted, shots_for

    db = open_store(store, create=False)
    try:
        student = cast(Prompted, cast(StudentEngine, lm.engine).student)
        index = None if reading is None else reading.index_id
        shots = shots_for(db, task, METHODS[lm.identity.method], student, index)
    finally:
        db.close()
    for predictor in program.predictors():
        predictor.demos = [dict(shot) for shot in shots]


def find(
    db: Database, student: str | None, *, task: str | None, size: str | None, method: str | None
) -> Mapping[str, Any]:
    """The row of the one student that is meant. Raises Missing or BadConfig."""
    there = rows(db, "internal/find_students", student=student, task=task, size=size, method=method)
    kinds = {(row["task"], row["size"], row["method"]) for row in there}
    if not there:
        asked = ", ".join(word for word in (student, task, size, method) if word)
        raise Missing(
            f"no student{f' ({asked})' if asked else ''} in the store; see them with: kard models, "
            + _next(task or "TASK", method)
        )
    if len(kinds) > 1 or (student is not None and len(there) > 1):
        listed = "; ".join(f"{row['id']} ({row['task']}, {row['size']}, {row['method']})" for row in there[:6])
        raise BadConfig(f"{len(there)} students could be meant; name one by id, task, size or method: {listed}")
    return there[0]


def _next(task: str, method: str | None) -> str:
    """The command that makes a student of that method."""
    if method is not None and method in METHODS and not METHODS[method].trained:
        return f"or prompt one with: kard evaluate {task} --students {method}"
    return f"or train one with: kard train student {task}"


def identity_of(row: Mapping[str, Any]) -> StudentInfo:
    """What a row of `students` says of the student."""
    return StudentInfo(
        id=row["id"],
        sha256=row["sha256"],
        base=row["base"],
        base_sha256=row["base_sha256"],
        method=row["method"],
        settings=settings_of(row["settings"]),
        task=row["task"],
        size=row["size"],
    )


def _task_of(task: str | Task | None) -> Task | None:
    return _known_task(task) if isinstance(task, str) else task


def _known_task(name: str) -> Task | None:
    """The task of that name or file; None for the name of a task whose file is not known here."""
    try:
        return tasks.load(name)
    except NoTask:
        if name.endswith(".py"):
            raise
        return None


def _retrieve(
    store: Path,
    task: Task,
    settings: Retrieval,
    retriever: str | None,
    seed: int,
    knowledge: Path,
    adapters: Path,
) -> _Reading:
    """From a question to the passages that are read. Raises Missing."""
    from kard.knowledge.knowledge_base import KnowledgeBase

    base = KnowledgeBase.open(knowledge)
    reranker = fusion = None
    if retriever != "bm25":
        db = open_store(store, create=False)
        try:
            newest = rows(db, "internal/newest_reranker", task=task.name, index=base.id, seed=seed)
            if newest:
                from kard.reranker.model import Reranker

                reranker_id = str(newest[0]["id"])
                fusion = fusion_for(db, task.name, reranker_id) if retriever == "fused" else None
                reranker = Reranker.load(db, reranker_id, adapters)
            elif retriever is not None:
                raise no_reranker(task.name)
        finally:
            db.close()
    return _Reading(base, LiveRetriever(base, reranker, settings, fusion=fusion))


class _Reading:
    """The first k passages of a source. A copy of it is itself: it holds a base and a model."""

    def __init__(self, base: KnowledgeBase, source: LiveRetriever) -> None:
        self.index_id = base.id
        self._source = source
        self._lock = threading.Lock()

    def __call__(self, question: str) -> list[Passage]:
        with self._lock:  # the reranker's tokenizer cannot be used by two threads at once
            return [one.hit.passage for one in self._source.find(question) if one.read]

    def __deepcopy__(self, memo: dict[int, Any]) -> _Reading:
        return self
