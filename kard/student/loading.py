"""Students and task programs out of a store, for people who write Python."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspy

from kard import tasks
from kard.config import METHODS, Decoding, Retrieval
from kard.db import open_store, rows
from kard.errors import BadConfig, Missing, NoTask
from kard.records import Passage
from kard.student.lm import Identity, StudentLM, reduced, with_student
from kard.student.model import Student, settings_of
from kard.tasks import Retrieve, Task

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.knowledge.base import KnowledgeBase
    from kard.reranker.model import Reranker

READERS = ("none", "bm25", "reranker")  # retrievers that a new question can be given


def load_student(
    store: str | Path,
    student: str | None = None,
    *,
    task: str | Task | None = None,
    size: str | None = None,
    method: str | None = None,
    decoding: Decoding | None = None,
    adapters: Path | None = None,
) -> StudentLM:
    """A `dspy.LM` that answers with a student of the store.

    `student` is an id, or the beginning of one, as `kard models` shows it; without it, the newest student of that
    task, size and method. `decoding` is the task's own unless given. Nothing of the base is loaded again when
    another student over it is loaded. Raises Missing when there is no such student or its adapter is not what was
    trained, BadConfig when several might be meant, NoBase when the base cannot be had.
    """
    path = Path(store)
    known = _task_of(task)
    name = known.name if known is not None else task if isinstance(task, str) else None
    db = open_store(path, create=False)
    try:
        row = find(db, student, task=name, size=size, method=method)
        loaded = Student.load(db, str(row["id"]), adapters or path.with_suffix(".adapters"))
    finally:
        db.close()
    known = known or _known_task(str(row["task"]))
    signature = None if known is None else reduced(known.answer, METHODS[str(row["method"])])
    default = Decoding() if known is None else known.settings.decoding
    return StudentLM(loaded, decoding or default, identity_of(row), signature)


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
    is `bm25` or `reranker`; by default the reranker where the store has one for this knowledge base. A method
    that reads nothing retrieves nothing. `task` is a name, the path of a task's file, or a `Task`. The program is
    an ordinary dspy.Module; see `with_student` for what it saves. Raises as `load_student` does.
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
            knowledge or path.with_suffix(".knowledge"),
            adapters or path.with_suffix(".adapters"),
        )
    return with_student(known.program(known.answer, retrieve), lm)


def find(
    db: Database, student: str | None, *, task: str | None, size: str | None, method: str | None
) -> Mapping[str, Any]:
    """The row of the one student that is meant. Raises Missing or BadConfig."""
    there = rows(db, "find_students", student=student, task=task, size=size, method=method)
    kinds = {(row["task"], row["size"], row["method"]) for row in there}
    if not there:
        asked = ", ".join(word for word in (student, task, size, method) if word)
        raise Missing(
            f"no student{f' ({asked})' if asked else ''} in the store; see them with: kard models, "
            f"or train one with: kard train student {task or 'TASK'}"
        )
    if len(kinds) > 1 or (student is not None and len(there) > 1):
        listed = "; ".join(f"{row['id']} ({row['task']}, {row['size']}, {row['method']})" for row in there[:6])
        raise BadConfig(f"{len(there)} students could be meant; name one by id, task, size or method: {listed}")
    return there[0]


def identity_of(row: Mapping[str, Any]) -> Identity:
    """What a row of `students` says of the student."""
    return Identity(
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
    store: Path, task: Task, settings: Retrieval, retriever: str | None, knowledge: Path, adapters: Path
) -> Retrieve:
    """From a question to the passages that are read. Raises Missing."""
    from kard.knowledge.base import KnowledgeBase

    base = KnowledgeBase.open(knowledge)
    reranker = None
    if retriever != "bm25":
        db = open_store(store, create=False)
        try:
            row = db.execute(
                "select id from rerankers where task = ? and index_id = ? order by created desc limit 1",
                [task.name, base.id],
            ).fetchone()
            if row is not None:
                from kard.reranker.model import Reranker

                reranker = Reranker.load(db, str(row[0]), adapters)
            elif retriever == "reranker":
                train = f"train one with: kard train reranker {task.name}"
                raise Missing(f"no reranker for {task.name} on this knowledge base; {train}")
        finally:
            db.close()
    return _Reading(base, reranker, settings)


class _Reading:
    """BM25, then the reranker, then the first k. A copy of it is itself: it holds a base and a model."""

    def __init__(self, base: KnowledgeBase, reranker: Reranker | None, settings: Retrieval) -> None:
        self._base, self._reranker, self._settings = base, reranker, settings
        self._lock = threading.Lock()

    def __call__(self, question: str) -> list[Passage]:
        settings = self._settings
        count = settings.k if self._reranker is None else settings.kappa
        found = [hit.passage for hit in self._base.search(question, count, max_df=settings.max_df)]
        if self._reranker is None or not found:
            return found
        with self._lock:  # its tokenizer cannot be used by two threads at once
            scores = self._reranker.scores(question, found)
        order = sorted(range(len(found)), key=lambda i: -float(scores[i]))
        return [found[i] for i in order[: settings.k]]

    def __deepcopy__(self, memo: dict[int, Any]) -> _Reading:
        return self
