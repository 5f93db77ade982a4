"""Students and task programs out of a store, or a student out of a published folder."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import dspy

from kard import tasks
from kard.api.lm import StudentLM, with_student
from kard.config import Decoding, Retrieval
from kard.db import open_store, value
from kard.errors import BadConfig, BadInput, Missing, NoBase, NoTask
from kard.files import adapters_folder
from kard.methods import METHODS
from kard.models import bases
from kard.models.adapters import changed_file
from kard.publish.folder import FACTS
from kard.records import Passage
from kard.retrieval.live import LiveRetriever, by_bm25, fusion_for, no_reranker
from kard.student.generation.engine import StudentEngine
from kard.student.generation.student import PromptedStudent, Student, base_at
from kard.student.generation.student import load_student as load_stored_student
from kard.student.prompt import signature_for
from kard.student.records import StudentInfo, find_student
from kard.tasks import Task

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.knowledge.knowledge_base import KnowledgeBase

LIVE_RETRIEVERS = ("none", "bm25", "reranker", "fused")  # those that a new question can be given


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
    """Return a `dspy.LM` that answers with a student of a store, or of a folder that `kard models export` wrote.

    `student` is an id, or the beginning of one, as `kard models` shows it; it defaults to the newest student of
    that task, size and method. `decoding` defaults to the task's own. `base` says where a folder's base is, if it
    is not a public one. Students over the same base share it in memory. Raises Missing if there is no such student
    or its adapter is not what was trained, BadConfig if several could be meant, NoBase if the base cannot be had.
    """
    path = Path(store)
    if path.is_dir():
        return _load_folder(path, base, decoding)
    if isinstance(task, str):
        task = _task_or_none(task) or task
    name = task.name if isinstance(task, Task) else task
    db = open_store(path, create=False)
    try:
        row = find_student(db, student, task=name, size=size, method=method)
        endpoint = decoding.endpoint if decoding else ""
        loaded = load_stored_student(db, row["id"], adapters or adapters_folder(path), endpoint)
    finally:
        db.close()
    info = StudentInfo.of(row)
    task = task if isinstance(task, Task) else _task_or_none(info.task)
    return _student_lm(loaded, info, task, decoding)


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
    """Return the task's inference program (section 3.4) over a student: `program(question=..., options=[...])`.

    It retrieves from the knowledge base beside the store, reranks, lets the student reason and answer. `task` is a
    name, the path of a task's file, or a `Task`. `retriever` is `bm25`, `reranker`, `fused` or `none`. It defaults
    to `fused`, where that was chosen, with the newest reranker for this knowledge base, preferring the student's
    seed; else to that reranker; else to BM25, with a warning if the documents have changed since one was trained.
    `k` passages are read, by default as many as when the student was taught. A method that reads nothing retrieves
    nothing. The program is an ordinary dspy.Module; see `with_student` for what it saves. Raises what
    `load_student` raises, BadConfig for a retriever that does not fit, Missing without a knowledge base.
    """
    path = Path(store)
    task = task if isinstance(task, Task) else tasks.load(task)
    adapters = adapters or adapters_folder(path)
    lm = load_student(
        path,
        student,
        task=task,
        size=size,
        method=None if student else method,
        decoding=decoding,
        adapters=adapters,
    )
    chosen = METHODS[lm.identity.method]
    if retriever is not None and retriever not in LIVE_RETRIEVERS:
        names = ", ".join(LIVE_RETRIEVERS)
        raise BadConfig(f"retriever must be one of {names} for a new question, not {retriever}")
    if retriever not in (None, "none") and not chosen.reads:
        raise BadConfig(f"method {chosen.name} reads no passages; leave the retriever out")
    db = open_store(path, create=False)
    try:
        retrieve = None
        if chosen.reads and retriever != "none":
            from kard.knowledge.knowledge_base import KnowledgeBase

            kb = KnowledgeBase.open(knowledge or path.with_suffix(".knowledge"))
            settings = task.settings.retrieval
            settings = replace(settings, k=k or (lm.identity.settings.k if chosen.trained else 0) or settings.k)
            live = _live_retriever(db, kb, task.name, retriever, settings, lm.identity.settings.seed, adapters)
            retrieve = _Retrieve(live)
        program = with_student(task.program(task.answer, retrieve), lm)
        if chosen.shots:
            _add_shots(program, db, task, lm, None if retrieve is None else retrieve.live.kb.id)
    finally:
        db.close()
    return program


def longest_target(facts: Mapping[str, Any]) -> int:
    """Return the number of tokens of the longest target that a folder's student was taught, 0 if not known."""
    return int(facts.get("longest") or facts.get("training", {}).get("longest") or 0)


def _load_folder(folder: Path, base: str | None, decoding: Decoding | None) -> StudentLM:
    """Return the student of a published folder. Raises BadInput, Missing or NoBase."""
    try:
        facts = cast("dict[str, Any]", json.loads((folder / FACTS).read_text("utf-8")))
        columns = {
            "id": facts["student"],
            "sha256": facts["adapter_sha256"],
            "settings": json.dumps(facts["settings"]),
        }
        info, merged = StudentInfo.of({**facts, **columns}), bool(facts["merged"])
        METHODS[info.method]
    except FileNotFoundError:
        raise BadInput(
            f"no {FACTS}: not a student that kard wrote; name a store or such a folder", at=str(folder)
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"cannot be read ({error!r}); export the student again", at=str(folder / FACTS)) from error
    if not merged and (changed := changed_file(folder, info.sha256)):
        raise Missing(f"{changed} is not what was trained (its hash differs); export the student again")
    resolved = bases.resolve(str(folder) if merged else base or info.base)
    if resolved.sha256 != (facts.get("weights_sha256") if merged else info.base_sha256):
        raise NoBase(
            f"{resolved.spec} has other weights than student {info.id} was trained on; name another with base="
        )
    student = Student(
        base_at(resolved, decoding.endpoint if decoding else ""),
        None if merged else folder,
        info.settings,
        name=info.id,
        target_tokens=longest_target(facts),
    )
    return _student_lm(student, info, _task_or_none(info.task), decoding)


def _student_lm(student: Student, info: StudentInfo, task: Task | None, decoding: Decoding | None) -> StudentLM:
    """Return the LM with the task's signature and decoding if the task is known."""
    signature = None if task is None else signature_for(task.answer, METHODS[info.method])
    if decoding is None:
        decoding = Decoding() if task is None else task.settings.decoding
    return StudentLM(student, decoding, info, signature)


def _task_or_none(name: str) -> Task | None:
    """Return the task of that name or file, None for the name of a task whose file is unknown."""
    try:
        return tasks.load(name)
    except NoTask:
        if name.endswith(".py"):
            raise
        return None


def _add_shots(program: dspy.Module, db: Database, task: Task, lm: StudentLM, index_id: str | None) -> None:
    """Give a base that is only prompted the worked examples that evaluation shows it."""
    student = cast(PromptedStudent, cast(StudentEngine, lm.engine).student)
    shots = student.shots(db, task, METHODS[lm.identity.method], index_id)
    for predictor in program.predictors():
        predictor.demos = [dict(shot) for shot in shots]


def _live_retriever(
    db: Database,
    kb: KnowledgeBase,
    task: str,
    retriever: str | None,
    settings: Retrieval,
    seed: int,
    adapters: Path,
) -> LiveRetriever:
    """Return the retriever of that name. Raises Missing.

    For None it is `fused` where that was chosen, else the newest reranker, else BM25.
    """
    reranker_id = None
    if retriever != "bm25":
        reranker_id = value(db, "internal/newest_reranker", task=task, index=kb.id, seed=seed)
    if reranker_id is None:
        if retriever not in (None, "bm25"):
            raise no_reranker(db, task)
        if retriever is None and (note := by_bm25(db, task)):
            warnings.warn(note, stacklevel=3)
        return LiveRetriever(kb, None, settings)
    from kard.reranker.model import Reranker

    fusion = None
    if retriever in (None, "fused"):
        fusion = fusion_for(db, task, reranker_id, settings.query, required=retriever is not None)
    return LiveRetriever(kb, Reranker.load(db, reranker_id, adapters), settings, fusion=fusion)


class _Retrieve:
    """A callable from a question to the passages that are read. It holds a model, so a copy is the same object."""

    def __init__(self, live: LiveRetriever) -> None:
        self.live = live
        self._lock = threading.Lock()

    def __call__(self, question: str, options: Sequence[str]) -> list[Passage]:
        with self._lock:  # the reranker's tokenizer cannot be used by two threads at once
            return [ranked.hit.passage for ranked in self.live.find(question, options) if ranked.read]

    def __deepcopy__(self, memo: dict[int, Any]) -> _Retrieve:
        return self
