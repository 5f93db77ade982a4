"""Let any stored students, and prompted bases, answer the same questions under many retrievers.

`kard run` lets the students of the current settings answer. Here a person names students: all seeds, all sizes,
whatever they were trained with. Each base is loaded once, and its adapters are changed in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sqlite_utils import Database

from kard.config import require
from kard.db import open_store, rows
from kard.errors import BadInput, Missing
from kard.evaluation.answer import answer, unanswered
from kard.evaluation.condition import Condition
from kard.evaluation.condition_names import joined, matching
from kard.methods import METHODS, NO_MODEL, RERANKED, RETRIEVERS, retrievers_of
from kard.pipeline.run import Run
from kard.pipeline.step import State, Step, evaluated_ids
from kard.pipeline.steps import announce, run_step, run_steps
from kard.pipeline.students import answering_student, train_student
from kard.retrieval.live import LiveRetriever, by_bm25, fusion_for, no_reranker

if TYPE_CHECKING:
    from kard.student.generation.student import Student

ALL, PROMPTED = "all", "prompted"  # words among the names of students


@dataclass(frozen=True, slots=True)
class StudentRef:
    """A student to evaluate: a row of `students`, or a base that has no row yet (id '')."""

    id: str
    size: str
    method: str
    seed: int
    base: str

    @classmethod
    def of(cls, row: Mapping[str, object]) -> StudentRef:
        """Return the student of a row of `stored_students`."""
        return cls(str(row["id"]), str(row["size"]), str(row["method"]), int(str(row["seed"])), str(row["base"]))

    @property
    def parts(self) -> tuple[str, ...]:
        """The words that may name it."""
        kind = (self.size, self.method)
        return (*kind, f"seed={self.seed}", self.id) if METHODS[self.method].trained else kind


def choose(
    run: Run, names: Sequence[str], *, sizes: Sequence[str] | None = None, seed: int | None = None
) -> list[StudentRef]:
    """Return the students that the names mean: `all` trained ones, `prompted` bases, ids, and names like 135m/kard.

    Prompted bases have the sizes that were trained unless `sizes` are given, and show the examples of `seed`.
    Raises BadInput for a name that means no student, Missing if all are asked for and none is trained.
    """
    trained = [StudentRef.of(row) for row in rows(run.db, "internal/stored_students", task=run.name)]
    trained_sizes = dict.fromkeys(student.size for student in trained if student.size in run.task.students)
    shown_seed = run.options.settings.prompting.seed if seed is None else seed
    bases = [
        StudentRef("", size, method.name, shown_seed, run.base_of(size))
        for size in sizes or list(trained_sizes) or run.options.sizes
        for method in METHODS.values()
        if not method.trained and not method.rule
    ]
    rules = [StudentRef("", NO_MODEL, method.name, shown_seed, "") for method in METHODS.values() if method.rule]
    parts = {student: student.parts for student in [*trained, *bases, *rules]}
    chosen: dict[StudentRef, None] = {}
    for name in names:
        students = trained if name == ALL else bases if name == PROMPTED else matching(name, parts)
        if not students and name == ALL:
            raise Missing(f"no student of {run.name} is trained; train them with: kard train student {run.name}")
        if not students:
            stored = joined(dict.fromkeys(words[:3] for words in parts.values()))
            raise BadInput(f"no student {name!r}; there are {stored}, and the words {ALL} and {PROMPTED}")
        chosen.update(dict.fromkeys(students))
    return list(chosen)


def choose_one(run: Run, name: str | None) -> StudentRef:
    """Return the newest trained student that the name means, else the base to prompt; without a name a `kard`.

    Raises BadInput for a name that means none or several kinds, Missing if none is trained.
    """
    stored = rows(run.db, "internal/stored_students", task=run.name)
    by_age = sorted(stored, key=lambda row: (str(row["created"]), int(str(row["number"]))))
    newest = [StudentRef.of(row) for row in reversed(by_age)]
    if name is None:
        if not newest:
            raise nothing_to_ask(run.store, run.name)
        return next((student for student in newest if student.method == "kard"), newest[0])
    prompted = choose(run, [PROMPTED])
    trained, bases = ({student: student.parts for student in group} for group in (newest, prompted))
    students = matching(name, trained) or matching(name, bases)
    kinds = {student.parts[:2] for student in students or newest or prompted}
    if not students:
        raise BadInput(f"no student {name!r}; there are {joined(sorted(kinds))}")
    if len(kinds) > 1:
        raise BadInput(f"{name!r} may mean {joined(sorted(kinds))}; name one of them")
    return students[0]


def task_to_ask(store: Path, task: str | None, student: str | None) -> str:
    """Return the task to ask a question of: the one that is named, or the only one of the store.

    With a name of a student, that may be a task without any. Nothing heavy is loaded. Raises BadInput for several
    tasks, Missing if there is nobody to ask.
    """
    db = open_store(store, create=False)
    trained = [
        str(row[0]) for row in db.execute("select distinct task from students where path <> '' order by task")
    ]
    loaded = [str(row[0]) for row in db.execute("select distinct task from questions order by task")]
    db.close()
    tasks = trained or (loaded if student else [])
    if task is None and len(tasks) > 1:
        raise BadInput(f"{store} holds {', '.join(tasks)}; choose one with --task")
    nobody = not tasks if task is None else student is None and task not in trained and not task.endswith(".py")
    if nobody:
        raise nothing_to_ask(store, task or (loaded[0] if len(loaded) == 1 else "TASK"))
    return task or tasks[0]


def nothing_to_ask(store: Path, task: str) -> Missing:
    """Return the error of a store without a trained student of the task."""
    return Missing(
        f"no student of {task} is trained in {store}; ask its base as it is with: kard ask QUESTION --task {task} "
        f"--student zero-shot --store {store}, or train one with: kard run {task} --store {store}"
    )


def live_retriever(run: Run, method: str, retriever: str | None) -> LiveRetriever | None:
    """Return what finds passages of a new question for a student of that method, None for one that reads nothing.

    Defaults to `fused` where that was chosen, else the reranker if there is one, else BM25. Raises BadConfig for a
    method that reads nothing, Missing without the knowledge base, the reranker or the fusion that was asked for.
    """
    reads = METHODS[method].reads
    require(
        reads or retriever in (None, "none"),
        f"a student of method {method} reads no passages; leave --retriever out",
    )
    if not reads or retriever == "none":
        return None
    settings, reranker_id = run.options.settings.retrieval, run.resolved.reranker
    if reranker_id is None and retriever in RERANKED:
        raise no_reranker(run.db, run.name, store=run.store)
    if reranker_id is None or retriever == "bm25":
        note = "" if retriever else by_bm25(run.db, run.name)
        return LiveRetriever(run.kb, None, settings, note=note)
    from kard.reranker.model import Reranker
    from kard.retrieval.rerank import vectors_of

    fusion = None
    if retriever in (None, "fused"):
        fusion = fusion_for(run.db, run.name, reranker_id, settings.query, required=retriever is not None)
    reranker = Reranker.load(run.db, reranker_id, run.adapters)
    # The token vectors of a question's candidates would take megabytes.
    vectors = vectors_of(run.db, reranker, reranker_id, run.knowledge) if reranker.scorer == "pooled" else None
    return LiveRetriever(run.kb, reranker, settings, vectors, fusion)


def of_seed(
    run: Run,
    seed: int,
    *,
    methods: Sequence[str] = (),
    retrievers: Sequence[str] = (),
    reranker: str | None = None,
) -> Run:
    """Return the run of one seed's students, with its reranker or the one of that id."""
    options = replace(
        run.options,
        settings=run.options.settings.seeded(seed),
        methods=tuple(dict.fromkeys(methods)) or run.options.methods,
        retrievers=tuple(retrievers) or run.options.retrievers,
        reranker=reranker,
        any_reranker=True,
    )
    return replace(run, options=options)


def taught_k(db: Database, student_id: str) -> int:
    """Return how many passages a trained student was taught to read: 0 for one that reads none, and for a base."""
    found = db.execute(
        "select coalesce(json_extract(settings, '$.k'), 0) from students where id = ? and path <> ''", [student_id]
    ).fetchone()
    return int(found[0]) if found else 0


def reading(run: Run, student_id: str, k: int | None) -> Run:
    """Return the run with `k` passages to read: by default as many as when it was taught, or the task's."""
    retrieval = run.options.settings.retrieval
    retrieval = replace(retrieval, k=k or taught_k(run.db, student_id) or retrieval.k)
    return replace(run, options=replace(run.options, settings=replace(run.options.settings, retrieval=retrieval)))


def unlike_taught(run: Run, students: Sequence[StudentRef]) -> list[str]:
    """Return a line for each student that would read another number of passages than it was taught with."""
    k = run.options.settings.retrieval.k
    taught = {(s.size, s.method, taught_k(run.db, s.id)) for s in students}
    return [
        f"{size}/{method} was taught with k={of} and reads k={k} now; for the same add: -k {of}"
        for size, method, of in sorted(taught)
        if of not in (0, k)
    ]


@dataclass(frozen=True)
class Plan:
    """Students with the retrievers that they answer with, those of one base together, each with its seed's run."""

    run: Run
    pairs: tuple[tuple[Run, StudentRef, str], ...]

    def missing(self) -> list[tuple[StudentRef, Condition, int]]:
        """Return each condition, as far as it can be told now, with the number of questions left to answer."""
        conditions = [(student, _condition(of, student, retriever)) for of, student, retriever in self.pairs]
        return [(student, condition, self._left(condition)) for student, condition in conditions]

    def answer(self) -> int:
        """Make what the retrievers need, then answer what is missing; return the number of new answers.

        Each answer is stored when it is made. Raises Missing for what is not made here: rationales of the evaluated
        questions, and rerankers.
        """
        for run in {id(run): run for run, _, _ in self.pairs}.values():
            if run.options.reads:
                announce(run, "find")
                run_steps(run, "find")
        about = "let stored students answer under many retrievers"
        step = Step(
            "evaluate", "answer", about, self._state, self._answer_all, drop="", conditions=self._conditions
        )
        return run_step(self.run, step)

    def _left(self, condition: Condition) -> int:
        return len(unanswered(self.run.db, self.run.name, condition, self.run.evaluated))

    def _state(self, run: Run) -> State:
        left = sum(count for _, _, count in self.missing())
        return State("answers", len(evaluated_ids(run)) * len(self.pairs) - left, left)

    def _ready(self) -> Iterator[tuple[StudentRef, Condition]]:
        """Yield students with their conditions, base by base; a base that is only prompted gets its row."""
        for of, student, retriever in self._by_base():
            ref = student if student.id else replace(student, id=train_student(of, student.size, student.method))
            yield ref, _condition(of, ref, retriever)

    def _conditions(self, _run: Run) -> list[Condition]:
        return [condition for student, condition in self._ready() if not METHODS[student.method].rule]

    def _answer_all(self, run: Run) -> int:
        added, resident = 0, ""
        waiting: list[tuple[Student | None, Condition]] = []
        for ref, condition in self._ready():
            if not (left := self._left(condition)):
                continue
            if METHODS[ref.method].rule:
                added += self._answer([(None, condition)])
                continue
            from kard.student.generation.batch import MAX_SHARED_ROWS  # torch, which a rule does not need

            # The base stays in memory from one student to the next, and leaves it before another one comes.
            if (
                left > MAX_SHARED_ROWS
                or ref.base != resident
                or any(condition.student_id == c.student_id for _, c in waiting)
            ):
                added, waiting, resident = added + self._answer(waiting), [], ref.base
            waiting.append((answering_student(run, condition), condition))
            if left > MAX_SHARED_ROWS:
                added, waiting = added + self._answer(waiting), []
        return added + self._answer(waiting)

    def _by_base(self) -> list[tuple[Run, StudentRef, str]]:
        """Return the pairs by base, then by retriever: students with few questions left share batches."""
        bases = list(dict.fromkeys(student.base for _, student, _ in self.pairs))
        return sorted(self.pairs, key=lambda pair: (bases.index(pair[1].base), RETRIEVERS.index(pair[2])))

    def _answer(self, pairs: Sequence[tuple[Student | None, Condition]]) -> int:
        run = self.run
        return answer(run.db, run.task, pairs, questions=run.evaluated, progress=run.progress)


def _condition(run: Run, student: StudentRef, retriever: str) -> Condition:
    student_id = student.id or run.resolved.student(student.size, student.method) or ""
    return run.condition(student_id, student.method, retriever)


def plan(run: Run, students: Sequence[StudentRef], retrievers: Sequence[str], reranker: str | None = None) -> Plan:
    """Return every student with every retriever that it can read from, base by base. Nothing is made or written.

    `reranker` is an id; without it each student reads by the reranker of its own seed, where there is one.
    Raises BadConfig for an unknown retriever, Missing where there is no reranker.
    """
    for retriever in retrievers:
        require(retriever in RETRIEVERS, f"retriever must be one of {', '.join(RETRIEVERS)}, not {retriever}")
    methods = [student.method for student in students]
    runs = {
        seed: of_seed(run, seed, methods=methods, retrievers=retrievers, reranker=reranker)
        for seed in {student.seed for student in students}
    }
    for of in runs.values():
        if of.options.reranks and of.resolved.reranker is None:
            raise no_reranker(run.db, run.name, store=run.store)
    by_base = sorted(students, key=lambda student: (student.base, student.size))
    return Plan(
        run,
        tuple(
            (runs[student.seed], student, retriever)
            for student in by_base
            for retriever in retrievers_of(student.method, retrievers)
        ),
    )
