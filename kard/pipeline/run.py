"""What a run is made of: the choices, and the rows of the store that they resolve to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kard.config import METHODS, RANKED, RERANKED, RETRIEVERS, Settings, TaskSettings, require
from kard.errors import BadConfig, Missing
from kard.evaluation.condition import Condition
from kard.progress import SILENT, Progress
from kard.records import canonical
from kard.tasks import Task

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.knowledge.knowledge_base import KnowledgeBase

EVALUATION_SPLITS = ("test", "dev", "validation")  # the first of these that a task has is answered
DEFAULT_METHODS = ("ft", "rd", "kard")
DEFAULT_RETRIEVERS = ("bm25", "reranker")  # `silver` needs a rationale of each evaluated question


@dataclass(frozen=True, slots=True)
class Teacher:
    """Whom to ask for rationales. `lm` makes the `dspy.LM`; without it nobody is asked and nothing is paid."""

    name: str
    lm: Callable[[], Any] | None = None
    max_cost: float | None = None  # US dollars


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a person chose for a run; the rest comes from the task's own settings."""

    settings: TaskSettings
    sizes: tuple[str, ...]
    methods: tuple[str, ...] = DEFAULT_METHODS
    retrievers: tuple[str, ...] = DEFAULT_RETRIEVERS
    limit: int | None = None  # training questions
    test_limit: int | None = None  # evaluated questions
    split: str | None = None  # evaluated split; found in the store when None
    teacher: Teacher | None = None  # found in the store when None
    encoder: str | None = None  # name of the reranker's base, the task's first when None

    def __post_init__(self) -> None:
        for method in self.methods:
            require(method in METHODS, f"method must be one of {', '.join(METHODS)}, not {method}")
        for retriever in self.retrievers:
            require(retriever in RETRIEVERS, f"retriever must be one of {', '.join(RETRIEVERS)}, not {retriever}")

    @property
    def reads(self) -> bool:
        """Whether any student reads passages."""
        return any(METHODS[m].reads for m in self.methods) and any(r != "none" for r in self.retrievers)

    @property
    def reranks(self) -> bool:
        """Whether anything is read in the reranker's order."""
        return self.reads and bool(
            set(RERANKED) & set(self.retrievers) or (self.searches and self.uses_reranker_encoder)
        )

    @property
    def searches(self) -> bool:
        """Whether anything is found by vectors."""
        return self.reads_from("dense") or self.reads_from("hybrid")

    def reads_from(self, retriever: str) -> bool:
        """Whether any student reads what that retriever finds."""
        return self.reads and retriever in self.retrievers

    @property
    def uses_reranker_encoder(self) -> bool:
        """Whether dense search reads with the trained reranker's encoder."""
        return self.settings.retrieval.encoder == "reranker"


@dataclass
class Run:
    """A task, its store and folders, and the choices of this run."""

    db: Database
    task: Task
    choices: RunOptions
    store: Path
    knowledge: Path
    adapters: Path
    progress: Progress = SILENT
    notes: list[str] = field(default_factory=lambda: list[str]())  # what a person should hear at the end

    @cached_property
    def split(self) -> str:
        """The split to answer. Raises Missing when the task has no question, or none but for training."""
        if self.choices.split:
            return self.choices.split
        sql = "select distinct split from questions where task = ?"
        there = [row[0] for row in self.db.execute(sql, [self.task.name])]
        for split in EVALUATION_SPLITS:
            if split in there:
                return split
        name = self.task.name
        if not there:
            raise Missing(f"no questions of {name} in {self.store}; load them with: kard load {name} FILE")
        raise Missing(f"no question of {name} to evaluate on; load some with: kard load {name} FILE --split test")

    @cached_property
    def base(self) -> KnowledgeBase:
        """The knowledge base. Raises Missing."""
        from kard.knowledge.knowledge_base import KnowledgeBase

        return KnowledgeBase.open(self.knowledge)

    @property
    def index_id(self) -> str:
        """The current state of the knowledge base, recorded in the store."""
        from kard.retrieval.retrieve import record_index

        return record_index(self.db, self.base)

    def teacher_id(self) -> str:
        """The teacher whose rationales train. Raises Missing or BadConfig when there is none, or no one."""
        found = list(
            self.db.query(
                "select distinct t.id, t.name, t.created from teachers t join rationales r on r.teacher_id = t.id"
                " join questions q on q.id = r.question_id where q.task = ? and q.split = 'train'"
                " order by t.created desc",
                [self.task.name],
            )
        )
        wanted = self.choices.teacher
        if wanted is not None:
            found = [row for row in found if row["name"] == wanted.name]
        if not found:
            name = self.task.name
            raise Missing(
                f"no rationales for {name}; ask a teacher with: kard teach {name} --model PROVIDER/MODEL,"
                f" or load recorded ones with: kard load {name} --rationales FILE"
            )
        names = {row["name"] for row in found}
        if len(names) > 1:
            raise BadConfig(f"rationales of {', '.join(sorted(names))}: choose whose with --teacher NAME")
        return str(found[0]["id"])

    @property
    def encoder(self) -> str:
        """The base of the reranker. Raises BadConfig for a name that the task does not declare."""
        name, there = self.choices.encoder, self.task.encoders
        if name is not None and name not in there:
            raise BadConfig(f"{self.task.name} has no encoder {name!r}; it declares {', '.join(there)}")
        return self.task.encoder if name is None else there[name]

    def reranker_id(self) -> str | None:
        """The newest reranker trained as chosen on the current index, None when there is none."""
        return _newest(
            self.db,
            "select id from rerankers where task = ? and base = ? and index_id = ? and settings = ?"
            " and experiment = '' order by created desc, rowid desc limit 1",
            [self.task.name, self.encoder, self.index_id, stored(self.choices.settings.reranker)],
        )

    def retriever_id(self, kind: str) -> str | None:
        """The newest fused, dense or hybrid retriever as chosen, None when there is none."""
        retrieval = self.choices.settings.retrieval
        wears = kind == "fused" or retrieval.encoder == "reranker"
        reranker = self.reranker_id() if wears else None
        if wears and reranker is None:
            return None
        base = self.encoder if wears or not retrieval.encoder else retrieval.encoder
        return _newest(
            self.db,
            "select id from retrievers where kind = ? and base = ? and reranker_id is ?"
            " and coalesce(json_extract(settings, '$.task'), ?) = ?"  # another task's questions chose another mix
            " order by created desc, rowid desc limit 1",
            [kind, base, reranker, self.task.name, self.task.name],
        )

    def student_id(self, size: str, method: str) -> str | None:
        """The newest student of that size and method trained as chosen, None when there is none."""
        return _newest(
            self.db,
            "select id from students where task = ? and size = ? and base = ? and method = ? and settings = ?"
            " order by created desc, rowid desc limit 1",
            [self.task.name, size, self.base_of(size), method, self.settings_of(method)],
        )

    def settings_of(self, method: str) -> str:
        """The `settings` column of a student of that method made as chosen."""
        known, settings = METHODS[method], self.choices.settings
        if known.trained:
            return stored(settings.student)
        from kard.student.generation.prompted import settings_text

        return settings_text(known, settings.prompting, self.teacher_id() if known.shots else None)

    def base_of(self, size: str) -> str:
        """The base model of a size. Raises BadConfig for a size that the task does not declare."""
        if size not in self.task.students:
            raise BadConfig(f"{self.task.name} has no size {size!r}; it declares {', '.join(self.task.students)}")
        return self.task.students[size]

    def students(self) -> Iterator[tuple[str, str]]:
        """Every size with every method."""
        for size in self.choices.sizes:
            for method in self.choices.methods:
                yield size, method

    def retrievers_of(self, method: str) -> tuple[str, ...]:
        """What a student of that method reads from: the chosen retrievers, or nothing."""
        return self.choices.retrievers if METHODS[method].reads else ("none",)

    def conditions(self) -> Sequence[Condition]:
        """Every condition whose student and reranker exist."""
        made: list[Condition] = []
        for size, method in self.students():
            student = self.student_id(size, method)
            if student is None:
                continue
            for retriever in self.retrievers_of(method):
                condition = self.condition(student, method, retriever)
                if condition.reranked and condition.reranker_id is None:
                    continue
                if retriever in RANKED and condition.retriever_id is None:
                    continue
                made.append(condition)
        return made

    def condition(self, student_id: str, method: str, retriever: str) -> Condition:
        """The condition of a student that reads from a retriever, decoded as chosen."""
        reads = retriever != "none"
        kappa = self.choices.settings.retrieval.kappa
        return Condition(
            split=self.split,
            student_id=student_id,
            method=method,
            retriever=retriever,
            k=self.choices.settings.retrieval.k,
            decoding=self.choices.settings.decoding,
            index_id=self.index_id if reads else None,
            reranker_id=self.reranker_id() if retriever in RERANKED else None,
            retriever_id=self.retriever_id(retriever) if retriever in RANKED else None,
            kappa=None if kappa == self.task.settings.retrieval.kappa else kappa,
        )


def stored(settings: Settings) -> str:
    """Settings in the form of a `settings` column."""
    return canonical(settings.values())


def _newest(db: Database, sql: str, values: Sequence[object]) -> str | None:
    row = db.execute(sql, list(values)).fetchone()
    return None if row is None else str(row[0])
