"""A run: the options that a person chose, and the rows of the store that they resolve to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kard.acceptance import only_teacher
from kard.config import READERS, Accept
from kard.db import rows, value
from kard.errors import Missing
from kard.evaluation.condition import CONTROL, Condition
from kard.methods import METHODS, NO_MODEL, RANKED, RERANKED, Method, retrievers_of
from kard.pipeline import extras
from kard.pipeline.options import RunOptions
from kard.progress import SILENT, Progress
from kard.questions import QuestionSet, evaluated_split
from kard.recipes import TrainingData
from kard.records import canonical
from kard.tasks import Task

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.knowledge.knowledge_base import KnowledgeBase
    from kard.retrieval.fusion import RelevanceLabels
    from kard.student.examples import RationaleSource, TrainingExtras
    from kard.work.workers import Workers


@dataclass
class Run:
    """A task with its store and folders, the options of this run, and the rows that they resolve to.

    Rows are looked up once, by reading, when one is asked for; `refresh` looks again after a step has written.
    """

    db: Database
    task: Task
    options: RunOptions
    store: Path
    knowledge: Path
    adapters: Path
    progress: Progress = SILENT
    notes: list[str] = field(default_factory=list[str])  # what a person should hear at the end
    workers: Workers | None = None  # who does steps in parts; this process does them when None
    checkpoints: Path | None = None  # folder of unfinished trainings; that of the adapters when None

    @cached_property
    def split(self) -> str:
        """The evaluated split. Raises Missing if the task has no questions, or none but those for training."""
        return self.options.split or evaluated_split(self.db, self.name, self.store)

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    @property
    def evaluated(self) -> QuestionSet:
        """The questions that are answered."""
        return QuestionSet(self.name, self.split, self.options.limit, self.options.only)

    @property
    def trained_on(self) -> QuestionSet:
        """The questions that reranker and students learn from."""
        return QuestionSet(self.name, "train", self.options.train_limit).draw(self.db, *self.options.draw)

    @property
    def encoder(self) -> str:
        """The base of the reranker. Raises BadConfig for a name that the task does not declare."""
        name = self.options.encoder
        return self.task.encoder if name is None else self.task.encoder_of(name)

    def base_of(self, size: str) -> str:
        """Return the base model of a size, '' for a rule. Raises BadConfig for a size that the task has not."""
        return "" if size == NO_MODEL else self.task.base_of(size)

    def students(self) -> Iterator[tuple[str, str]]:
        """Yield every size with every method; a rule has no size."""
        for method in self.options.methods:
            if METHODS[method].rule:
                yield NO_MODEL, method
        for size in self.options.sizes:
            yield from ((size, method) for method in self.options.methods if not METHODS[method].rule)

    @cached_property
    def kb(self) -> KnowledgeBase:
        """The knowledge base. Raises Missing."""
        from kard.knowledge.knowledge_base import KnowledgeBase

        return KnowledgeBase.open(self.knowledge)

    @cached_property
    def resolved(self) -> Resolved:
        """The rows that the options mean."""
        return Resolved(self)

    def refresh(self) -> None:
        """Look the rows up again when they are next asked for: a step has written."""
        for found in ("resolved", "kb", "ordering", "explaining"):
            self.__dict__.pop(found, None)

    @property
    def index_id(self) -> str:
        """The id of the knowledge base as it is now. Raises Missing if there is none."""
        return self.resolved.index or self.kb.id

    @property
    def teacher_id(self) -> str:
        """The id of the teacher whose rationales train. Raises Missing for none, BadConfig for several."""
        return only_teacher(self.name, self.resolved.teachers)

    @property
    def accept(self) -> Accept:
        """The rule by which rationales train."""
        return self.options.settings.teaching.accept

    @property
    def verified_teacher(self) -> str | None:
        """The teacher whose rationales need a reader's verdict, None if the rule asks for none. Raises Missing."""
        return self.teacher_id if self.accept in READERS else None

    @property
    def reranker_id(self) -> str:
        """The id of the reranker to rank with. Raises Missing if there is none."""
        if self.resolved.reranker is None:
            from kard.retrieval.live import no_reranker

            raise no_reranker(self.db, self.name, store=self.store)
        return self.resolved.reranker

    def student_settings(self, method: str) -> str:
        """Return the `settings` column of a student of that method."""
        from kard.student.records import settings_column

        return settings_column(METHODS[method], self.options.settings, self.rationale_source)

    @property
    def rationale_source(self) -> RationaleSource:
        """Which rationales students are taught with and prompted bases are shown."""
        from kard.student.examples import RationaleSource

        form, options = self.options.settings.retrieval.rationale_query, self.options
        return RationaleSource(self.resolved.teacher, self.accept, form, options.train_limit, *options.draw)

    @cached_property
    def ordering(self) -> Run | None:
        """The run that finds what students read in training, None where grounding does."""
        options = extras.ordering(self.options, self.trained_on.drawn)
        return options and replace(self, options=options)

    @cached_property
    def explaining(self) -> Run | None:
        """The run in which earlier students explain what nobody explained to them, None if none do."""
        if not self.options.settings.student.own:
            return None
        others = extras.unexplained(self.db, self.rationale_source, self.trained_on)
        options = extras.explaining(self.options, others)
        return options and replace(self, options=options)

    def extras_for(self, size: str, method: str) -> TrainingExtras | None:
        """Return what a student learns from besides rationales, None while that is not there. Raises Missing."""
        ordered = explained = None
        if METHODS[method].reads and (before := self.ordering):
            ordered = before.condition("", method, before.options.retrievers[0]), before.evaluated
        if METHODS[method].reasons and (before := self.explaining):
            (retriever,) = retrievers_of(method, before.options.retrievers)
            if (student := before.resolved.student(size, method)) is None:
                return None
            explained = before.condition(student, method, retriever), before.evaluated
        return extras.read_extras(self.db, self.name, ordered, explained)

    def conditions(self) -> list[Condition]:
        """Return every condition whose student and retriever exist."""
        need_reranker = (*RERANKED, CONTROL) if self.options.reranks else ()
        return [
            condition
            for (_, method), student in self.resolved.students.items()
            if student is not None
            for condition in (
                self.condition(student, method, r) for r in retrievers_of(method, self.options.retrievers)
            )
            if (condition.reranker_id or condition.retriever not in need_reranker)
            and (condition.retriever_id or condition.retriever not in RANKED)
        ]

    def condition(self, student_id: str, method: str, retriever: str) -> Condition:
        """Return the condition of a student that reads from a retriever, decoded as chosen."""
        settings = self.options.settings
        return Condition(
            split=self.split,
            student_id=student_id,
            method=method,
            retriever=retriever,
            k=settings.retrieval.k,
            decoding=settings.decoding,
            form=settings.retrieval.query,
            rationale_form=settings.retrieval.rationale_query,
            index_id=None if retriever == "none" else self.index_id,
            reranker_id=self.resolved.reranker if retriever in (*RERANKED, CONTROL) else None,
            retriever_id=self.resolved.retrievers.get(retriever),
            kappa=settings.retrieval.kappa,
            max_df=1.0 if retriever == "none" else settings.retrieval.max_df_among(self.kb.count),
            teacher_id=self.resolved.silver_teacher if retriever == "silver" else None,
            accept=self.accept,
        )


class Resolved:
    """Ids of the rows that a run's options mean when first asked for, None where the store has no such row yet."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @cached_property
    def index(self) -> str | None:
        """State of the knowledge base, None where there is no knowledge base."""
        try:
            return self._run.kb.id
        except Missing:
            return None

    @cached_property
    def teachers(self) -> Mapping[str, str]:
        """Names of the teachers whose rationales may be used, by id, newest first."""
        run, chosen = self._run, self._run.options.teacher
        found = rows(run.db, "internal/teachers_of_split", task=run.name, split="train")
        teachers = {row["id"]: row["name"] for row in found}
        return {i: name for i, name in teachers.items() if chosen is None or name == chosen.name}

    @cached_property
    def teacher(self) -> str | None:
        """The teacher whose rationales are used, None if there is none or several could be meant."""
        return next(iter(self.teachers)) if len(set(self.teachers.values())) == 1 else None

    @cached_property
    def silver_teacher(self) -> str | None:
        """Whose rationales find the evaluated questions' silver passages: the teacher's, else the only one's."""
        run = self._run
        others = [row["id"] for row in rows(run.db, "internal/teachers_of_split", task=run.name, split=run.split)]
        alone = run.options.teacher is None and self.teacher not in others and len(others) == 1
        return others[0] if alone else self.teacher

    @cached_property
    def grounded(self) -> bool:
        """Whether every rationale of the training questions has its passages: else the data are not known yet."""
        if self.index is None:
            return False
        from kard.retrieval.retrieve import ungrounded

        run, settings = self._run, self._run.options.settings.retrieval
        try:
            where = (run.db, self.index, run.trained_on, settings)
            return not ungrounded(*where, accept=run.accept, teacher_id=run.verified_teacher)
        except Missing:  # a verdict that the rule of acceptance asks for
            return False

    @cached_property
    def reranker_data(self) -> TrainingData | None:
        """What a reranker would be trained on now, None if there is nothing."""
        if self.index is None or self.teacher is None or not self.grounded:
            return None
        from kard.reranker.dataset import read_dataset

        run = self._run
        try:
            return read_dataset(
                run.db,
                run.trained_on,
                self.index,
                teacher_id=self.teacher,
                accept=run.accept,
                settings=run.options.settings.retrieval,
            ).data
        except Missing:
            return None

    @cached_property
    def reranker(self) -> str | None:
        """The reranker that was named, else the one of these settings and data, else perhaps any."""
        run, options = self._run, self._run.options
        if options.reranker or not options.reranks:
            return options.reranker
        data = None if options.any_reranker else self.reranker_data
        trained = None
        if options.any_reranker or data:
            trained = value(
                run.db,
                "internal/reranker_of_settings",
                task=run.name,
                base=run.encoder,
                index=self.index,
                settings=canonical(options.settings.reranker.values()),
                data=data and data.sha256,
            )
        if trained is None and options.any_reranker:
            seed = options.settings.reranker.seed
            trained = value(run.db, "internal/newest_reranker", task=run.name, index=self.index, seed=seed)
        return trained

    @cached_property
    def retrievers(self) -> Mapping[str, str | None]:
        """The fused, dense and hybrid retrievers."""
        return {kind: self.retriever(kind) for kind in RANKED}

    def retriever(self, kind: str) -> str | None:
        """Return the id of the retriever of that kind, None where nobody reads from it."""
        run, encoder = self._run, self._run.options.settings.retrieval.encoder
        if not run.options.reads_from(*(("dense", "hybrid") if kind == "dense" else (kind,))):
            return None
        rests_on_reranker = kind == "fused" or run.options.uses_reranker_encoder
        if rests_on_reranker and self.reranker is None:
            return None
        return value(
            run.db,
            "internal/retriever_of_kind",
            kind=kind,
            base=run.encoder if rests_on_reranker or not encoder else encoder,
            reranker=self.reranker if rests_on_reranker else None,
            settings=canonical(self.search_settings(kind)),
        )

    def search_settings(self, kind: str) -> dict[str, object]:
        """Return what such a retriever orders, and what its two orders were mixed for."""
        run, settings = self._run, self._run.options.settings.retrieval
        if kind == "dense":
            return {"query": settings.query}
        searched = {"query": settings.query, "kappa": settings.kappa, "index": run.index_id}
        found: dict[str, object] = {**searched, "max_df": settings.max_df_among(run.kb.count)}
        if kind == "fused":
            return found
        from kard.retrieval.fusion import hash_labels

        chosen_on = "" if run.options.uses_reranker_encoder else hash_labels(self.labels)
        return {**found, "task": run.name, "dense": self.retriever("dense"), "labels": chosen_on}

    @cached_property
    def labels(self) -> Sequence[RelevanceLabels]:
        """What the training questions need by their rationales; none without a teacher. Raises BadConfig."""
        from kard.retrieval.fusion import read_labels

        run, settings = self._run, self._run.options.settings.retrieval
        if not self.teachers:  # nobody has explained anything: nothing can be chosen
            return ()
        where, whose = (run.db, run.name, run.index_id), run.teacher_id
        asked = run.trained_on
        return read_labels(*where, teacher_id=whose, accept=run.accept, settings=settings, questions=asked)

    @cached_property
    def student_data(self) -> Mapping[tuple[str, str], TrainingData]:
        """What students would be trained on or shown now, by size and method; without those that lack something."""
        data = {
            (size, method): self._student_data(size, METHODS[method])
            for size, method in self._run.students()
            if METHODS[method].trained or METHODS[method].shots
        }
        return {pair: found for pair, found in data.items() if found is not None}

    def _student_data(self, size: str, method: Method) -> TrainingData | None:
        if self.teacher is None or (method.trained and method.reads and not self.grounded):
            return None
        from kard.student.examples import shot_data, student_data

        run, settings = self._run, self._run.options.settings
        index = self.index if method.reads else None
        try:
            if method.shots:
                return shot_data(run.db, run.name, method, settings.prompting, run.rationale_source)
            if (learned := run.extras_for(size, method.name)) is None:
                return None
            where = run.db, run.task, method, method.training(settings), run.rationale_source
            return student_data(*where, index_id=index, extras=learned)[1]
        except Missing:
            return None

    @cached_property
    def students(self) -> Mapping[tuple[str, str], str | None]:
        """Every size with every method: the student of these settings and, where it is trained, of these data."""
        return {pair: self.student(*pair) for pair in self._run.students()}

    def student(self, size: str, method: str) -> str | None:
        """Return the id of the student of that size and method."""
        run = self._run
        data = self.student_data.get((size, method))
        if data is None and (METHODS[method].trained or METHODS[method].shots):
            return None  # nothing to train on: whatever was trained before was trained on something else
        return value(
            run.db,
            "internal/student_of_settings",
            task=run.name,
            size=size,
            base=run.base_of(size),
            method=method,
            settings=run.student_settings(method),
            data=data and data.sha256,
        )
