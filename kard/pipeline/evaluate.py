"""Any stored students, and prompted bases, under many retrievers: the same questions for every condition.

`kard answer` lets the students of the current settings answer. Here a person names students: all seeds, all sizes,
whatever they were trained with. Each base is loaded once, and its adapters are changed in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kard.config import METHODS, RERANKED, RETRIEVERS, require
from kard.db import open_store, rows
from kard.errors import BadInput, Missing
from kard.evaluation.answer import answer, unanswered
from kard.evaluation.condition import Condition
from kard.evaluation.name_matching import listed, meant
from kard.pipeline import steps
from kard.pipeline.run import Run
from kard.pipeline.step import State, Step, tested_ids
from kard.pipeline.students import train_student
from kard.retrieval.live import LiveRetriever, fusion_for

if TYPE_CHECKING:
    from kard.student.generation.student import Student

ALL, PROMPTED = "all", "prompted"  # words among the names of students
NOT_HERE = ("teach", "reranker", "student", "answer")  # steps that an evaluation does not do by the way


@dataclass(frozen=True, slots=True)
class StudentRef:
    """A student to evaluate: a row of `students`, or a base that is yet to have one (id '')."""

    id: str
    size: str
    method: str
    seed: int
    base: str

    @property
    def parts(self) -> tuple[str, ...]:
        """What it may be named by."""
        kind = (self.size, self.method)
        return kind if not METHODS[self.method].trained else (*kind, f"seed={self.seed}", self.id)


@dataclass
class Evaluation(Run):
    """The work of one seed, with the reranker that its conditions read from."""

    fixed_reranker: str | None = None

    def reranker_id(self) -> str | None:
        """The reranker that was named, else one trained as chosen, else the newest of the seed, else the newest."""
        if self.fixed_reranker:
            return self.fixed_reranker
        if found := super().reranker_id():
            return found
        seed = self.choices.settings.reranker.seed
        newest = rows(self.db, "newest_reranker", task=self.task.name, index=self.index_id, seed=seed)
        return str(newest[0]["id"]) if newest else None


def choose(
    work: Run, names: Sequence[str], *, sizes: Sequence[str] | None = None, seed: int | None = None
) -> list[StudentRef]:
    """The students that the names mean: `all` trained ones, `prompted` bases, ids, and names like 135m/kard.

    Prompted bases are of the sizes that were trained unless `sizes` are given, and show the examples of `seed`.
    Raises BadInput for a name that means none, Missing when none is trained and all are asked for.
    """
    trained = [_chosen(row) for row in rows(work.db, "stored_students", task=work.task.name)]
    known = [student.size for student in trained if student.size in work.task.students]
    asked = sizes or list(dict.fromkeys(known)) or work.choices.sizes
    shown = work.choices.settings.prompting.seed if seed is None else seed
    bases = [
        StudentRef("", size, m.name, shown, work.base_of(size))
        for size in asked
        for m in METHODS.values()
        if not m.trained
    ]
    parts = {student: student.parts for student in [*trained, *bases]}
    found: dict[StudentRef, None] = {}
    for name in names:
        some = trained if name == ALL else bases if name == PROMPTED else meant(name, parts)
        if not some and name == ALL:
            task = work.task.name
            raise Missing(f"no student of {task} is trained; train them with: kard train student {task}")
        if not some:
            there = listed(dict.fromkeys(own[:3] for own in parts.values()))
            raise BadInput(f"no student {name!r}; there are {there}, and the words {ALL} and {PROMPTED}")
        found.update(dict.fromkeys(some))
    return list(found)


def choose_one(work: Run, name: str | None) -> StudentRef:
    """The trained student that the name means, the newest of several seeds; without a name the newest `kard`.

    Raises BadInput for a name that means none or several kinds, Missing when none is trained.
    """
    found = rows(work.db, "stored_students", task=work.task.name)
    by_age = sorted(found, key=lambda row: (str(row["created"]), int(str(row["number"]))))
    newest = [_chosen(row) for row in reversed(by_age)]
    if not newest:
        task = work.task.name
        raise Missing(f"no student of {task} is trained; train one with: kard train student {task}")
    if name is None:
        return next((student for student in newest if student.method == "kard"), newest[0])
    some = meant(name, {student: student.parts for student in newest})
    kinds = {student.parts[:2] for student in some or newest}
    if not some:
        raise BadInput(f"no student {name!r}; there are {listed(sorted(kinds))}")
    if len(kinds) > 1:
        raise BadInput(f"{name!r} may mean {listed(sorted(kinds))}; name one of them")
    return some[0]


def only_task(store: Path) -> str:
    """The task of the store's students. Raises BadInput when there are several, Missing when there is none."""
    db = open_store(store, create=False)
    found = [str(row[0]) for row in db.execute("select distinct task from students where path <> '' order by task")]
    db.close()
    if not found:
        raise Missing(f"no student in {store}; train some with: kard run TASK --store {store}")
    if len(found) > 1:
        raise BadInput(f"{store} has students of {', '.join(found)}; choose one with --task")
    return found[0]


def source(work: Evaluation, method: str, retriever: str | None) -> tuple[LiveRetriever | None, str | None]:
    """Where a student of that method finds passages for a new question, and the reranker's id if one orders them.

    Without a retriever: the reranker if there is one, else BM25. Raises BadConfig for a method that reads nothing,
    Missing without knowledge base, reranker or the order that was asked for.
    """
    reads = METHODS[method].reads
    require(
        reads or retriever in (None, "none"),
        f"a student of method {method} reads no passages; leave --retriever out",
    )
    if not reads or retriever == "none":
        return None, None
    found = None if retriever == "bm25" else work.reranker_id()
    if found is None and retriever in RERANKED:
        raise no_reranker(work)
    fusion = fusion_for(work.db, work.task.name, found) if found and retriever == "fused" else None
    model = vectors = None
    if found is not None:
        from kard.reranker.model import Reranker
        from kard.retrieval.rerank import encodings_of

        model = Reranker.load(work.db, found, work.adapters)
        if model.scorer == "pooled":  # the token vectors of a question's candidates would take megabytes
            vectors = encodings_of(work.db, model, found, work.knowledge)
    return LiveRetriever(work.base, model, work.choices.settings.retrieval, vectors, fusion), found


@dataclass(frozen=True)
class Plan:
    """Students and retrievers to answer with, those of one base together, each with the work of its seed."""

    work: Run
    pairs: tuple[tuple[Evaluation, StudentRef, str], ...]

    def missing(self) -> list[tuple[StudentRef, Condition, int]]:
        """Each condition, as far as it can be told now, with the number of questions that it has not answered."""
        found = [(student, _condition(over, student, retriever)) for over, student, retriever in self.pairs]
        return [(student, condition, self._left(condition)) for student, condition in found]

    def run(self) -> int:
        """Make what the retrievers need, then answer what is missing; the number of new answers.

        Each answer is kept when it is made. Raises Missing for what is not made here: rationales of the evaluated
        questions.
        """
        for over in {id(over): over for over, _, _ in self.pairs}.values():
            _prepare(over)
        step = Step("evaluate", "stored students under many retrievers", self._state, self._answers, drop="")
        return steps.run_step(self.work, step)

    def _left(self, condition: Condition) -> int:
        work = self.work
        return len(unanswered(work.db, work.task.name, condition, work.choices.test_limit))

    def _state(self, work: Run) -> State:
        left = sum(count for _, _, count in self.missing())
        return State("answers", len(tested_ids(work)) * len(self.pairs) - left, left)

    def _answers(self, work: Run) -> int:
        from kard.student.generation.multi_adapter import FEW
        from kard.student.generation.student import Student

        added, resident, waiting = 0, "", list[tuple[Student, Condition]]()
        for over, student, retriever in self._in_turn():
            made = student if student.id else replace(student, id=train_student(over, student.size, student.method))
            condition = _condition(over, made, retriever)
            if not (left := self._left(condition)):
                continue
            # The base stays in memory from one student to the next, and leaves it before another one comes.
            base = student.base
            if left > FEW or base != resident or any(condition.student_id == c.student_id for _, c in waiting):
                added, waiting, resident = added + self._answer(waiting), [], base
            loaded = Student.load(work.db, condition.student_id, work.adapters)
            waiting.append((loaded, condition))
            if left > FEW:
                added, waiting = added + self._answer(waiting), []
        return added + self._answer(waiting)

    def _in_turn(self) -> list[tuple[Evaluation, StudentRef, str]]:
        """Base by base, and retriever by retriever: students with few questions left answer them together."""
        bases = list(dict.fromkeys(student.base for _, student, _ in self.pairs))
        return sorted(self.pairs, key=lambda pair: (bases.index(pair[1].base), RETRIEVERS.index(pair[2])))

    def _answer(self, asked: Sequence[tuple[Student, Condition]]) -> int:
        work = self.work
        return answer(work.db, work.task, asked, limit=work.choices.test_limit, progress=work.progress)


def _condition(over: Evaluation, student: StudentRef, retriever: str) -> Condition:
    row = student.id or over.student_id(student.size, student.method) or ""
    return over.condition(row, student.method, retriever)


def plan(work: Run, students: Sequence[StudentRef], retrievers: Sequence[str], reranker: str | None = None) -> Plan:
    """Every student with every retriever that it can read from, base by base. Nothing is made or written.

    `reranker` is an id; without it each student reads by the reranker of its own seed, where there is one.
    Raises BadConfig for an unknown retriever, Missing where there is no reranker.
    """
    for retriever in retrievers:
        require(retriever in RETRIEVERS, f"retriever must be one of {', '.join(RETRIEVERS)}, not {retriever}")
    methods = [student.method for student in students]
    works = {
        seed: of_seed(work, seed, methods=methods, retrievers=retrievers, reranker=reranker)
        for seed in {student.seed for student in students}
    }
    for over in works.values():
        if over.choices.reranks and over.reranker_id() is None:
            raise no_reranker(work)
    by_base = sorted(students, key=lambda student: (student.base, student.size))
    return Plan(
        work,
        tuple(
            (works[student.seed], student, retriever)
            for student in by_base
            for retriever in (dict.fromkeys(retrievers) if METHODS[student.method].reads else ("none",))
        ),
    )


def of_seed(
    work: Run,
    seed: int,
    *,
    methods: Sequence[str] = (),
    retrievers: Sequence[str] = (),
    reranker: str | None = None,
) -> Evaluation:
    """The work of one seed's students and reranker."""
    choices = replace(
        work.choices,
        settings=work.choices.settings.seeded(seed),
        methods=tuple(dict.fromkeys(methods)) or work.choices.methods,
        retrievers=tuple(retrievers) or work.choices.retrievers,
    )
    return Evaluation(
        work.db,
        work.task,
        choices,
        work.store,
        work.knowledge,
        work.adapters,
        work.progress,
        work.notes,
        fixed_reranker=reranker,
    )


def no_reranker(work: Run) -> Missing:
    """The error of a store without a reranker."""
    name = work.task.name
    return Missing(f"no reranker for {name} on this knowledge base; train one with: kard train reranker {name}")


def _prepare(work: Evaluation) -> None:
    """Passages of each question and orders of them, for the chosen retrievers."""
    if not work.choices.reads:
        return
    for step in steps.wanted(work):
        if step.name not in NOT_HERE:
            steps.run_step(work, step)
    if "silver" in work.choices.retrievers:
        _check_silver(work)


def _check_silver(work: Run) -> None:
    """Raises Missing unless every evaluated question has passages that a rationale found.

    An upper bound over some of the questions would be compared with rows over all of them.
    """
    tested = tested_ids(work)
    found = work.db.execute(
        "select distinct question_id from retrievals where query = 'rationale' and index_id = ?", [work.index_id]
    )
    lacking = len(set(tested) - {row[0] for row in found})
    if lacking:
        name = work.task.name
        raise Missing(
            f"{lacking} of {len(tested)} questions of {name}/{work.split} have no rationale to find silver passages"
            f" with; ask for them with: kard teach {name} --split {work.split} --samples 1"
        )


def _chosen(row: Mapping[str, object]) -> StudentRef:
    return StudentRef(str(row["id"]), str(row["size"]), str(row["method"]), int(str(row["seed"])), str(row["base"]))
