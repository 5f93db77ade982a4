"""Learn facts by heart, or look them up: which of the two answers more, over the number of facts, at equal cost.

A student that learns by heart is told the facts' documents in ever other words, then trained on questions about
every fact. One that looks up gets as many tokens of documents and questions about other things. Both answer new
questions about the facts, in wordings that no training used; the latter reads what is found among all documents.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice, takewhile
from math import log2
from statistics import fmean
from time import monotonic
from typing import TYPE_CHECKING

from kard.answers.parsing import without_closing
from kard.config import require
from kard.db import now
from kard.evaluation.answer import answer, evaluation_id, unanswered
from kard.evaluation.compare import Comparison, all_pairs, compare, conditions_of
from kard.evaluation.graded import GradedAnswer, graded_rows
from kard.evaluation.report import ReportRow, TableCells, report_rows
from kard.knowledge.indexing import index_documents
from kard.methods import METHODS, retrievers_of
from kard.pipeline.extras import GROUNDED
from kard.pipeline.load import store_questions
from kard.pipeline.retrieve import GROUND, RETRIEVE
from kard.pipeline.run import Run
from kard.pipeline.steps import log_step, run_step
from kard.pipeline.students import STUDENT, answering_student
from kard.records import Question, canonical, digest
from kard.student.examples import Pair, render_pair, training_pairs
from kard.student.prompt import signature_for
from kard.work.claims import claimed

if TYPE_CHECKING:
    from pathlib import Path

    from kard.evaluation.page.figures import Point
    from kard.models.bases import Base
    from kard.student.tokens import Tokens
    from kard.tasks import Facts

SETTINGS = (
    "student.full=true",
    "student.upper_half=false",
    "student.epochs=1",
    "student.batch=4",
    "student.peak_lr=0.003",
    "retrieval.k=1",
    "retrieval.query=question+options",
    "decoding.max_new_tokens=0",
)
"""Every weight is trained, once through, on questions that one page answers; what is typed comes after these.

Steps are small, since tokens are few, and the rate is one for random weights.
"""
RANDOM = re.compile(r"(\d+)x(\d+)")
TOLD = 1 / 2  # share of the tokens that are documents; the rest are questions
FLOPS = 6  # of training, for each parameter and token
RETRIEVERS = ("none", "bm25", "shuffled")
SPLIT = "test"


@dataclass(frozen=True, slots=True)
class Material:
    """What a student learns from: the facts that it is asked about, or others."""

    facts: int
    others: bool

    def __str__(self) -> str:
        return f"others-{self.facts}" if self.others else str(self.facts)


@dataclass(frozen=True, slots=True)
class Trial:
    """A student on a number of facts, with what it cost."""

    facts: int
    size: str
    method: str
    seed: int
    parameters: int
    tokens: int  # that it was trained on, its base included
    bits: float  # that the facts hold
    needed: float  # bits that it must store by the theory: at least these by heart, at most these to look up


@dataclass(frozen=True, slots=True)
class MemoryStudent:
    """A trained student: its run, its id, its parameters and the tokens that it was trained on."""

    run: Run
    student: str
    parameters: int
    tokens: int


@dataclass(frozen=True)
class Memory:
    """The whole comparison. `run` has its methods, sizes and settings."""

    run: Run
    facts: Sequence[int]
    others: int  # facts that no test question asks about
    questions: int  # of each number of facts, in the end
    tokens: int  # that each student is trained on, its base included
    seeds: Sequence[int]

    def __post_init__(self) -> None:
        options = self.run.options
        untrained = [method for method in options.methods if not METHODS[method].trained]
        require(not untrained, f"{', '.join(untrained)} learns nothing; name methods that are trained")
        unknown = sorted(set(options.retrievers) - set(RETRIEVERS))
        require(not unknown, f"facts are looked up with {', '.join(RETRIEVERS)}, not {', '.join(unknown)}")
        require(self.run.task.facts is not None, f"{self.run.name} has no facts to count")
        settings = options.settings
        require(
            settings.teaching == self.run.task.settings.teaching and not settings.student.own,
            "every question here comes with its rationale; leave out teaching.* and student.own",
        )
        require(
            settings.student.passages in GROUNDED,
            f"facts are learned to be looked up with student.passages of {', '.join(GROUNDED)}, not "
            f"{settings.student.passages}",
        )

    def measure(self) -> tuple[list[GradedAnswer], list[Trial]]:
        """Train and ask every student that has not been; `variant` of an answer is the number of facts."""
        evaluations: set[int] = set()
        students: dict[tuple[object, ...], MemoryStudent] = {}
        trials: list[Trial] = []
        keys: set[str] = set()
        for seed, size, facts, method in self._trials():
            self.run.progress.note(f"{facts} facts: {method} {size} seed={seed}")
            key = seed, size, self._material(facts, method), method
            own = students[key] = students.get(key) or self._train(seed, size, facts, method)
            asked, known = self._asking(own.run, facts, method), self._facts(Material(facts, others=False))
            keys.update(question.key for question in asked.evaluated.read(asked.db).values())
            for retriever in retrievers_of(method, own.run.options.retrievers):
                condition = asked.condition(own.student, method, retriever)
                if unanswered(asked.db, asked.name, condition, asked.evaluated):
                    pair = answering_student(own.run, condition), condition
                    answer(asked.db, asked.task, [pair], questions=asked.evaluated, progress=asked.progress)
                evaluations.add(evaluation_id(asked.db, asked.name, condition))
            needed = len(known.documents) * log2(asked.kb.count) if METHODS[method].reads else known.bits
            trials.append(Trial(facts, size, method, seed, own.parameters, own.tokens, known.bits, needed))
        graded = [
            replace(GradedAnswer.of(row), variant=str(facts))
            for facts in self.facts
            for row in graded_rows(self.run.db, self._name(Material(facts, others=False)), SPLIT)
            if row["evaluation_id"] in evaluations and row["key"] in keys
        ]
        return graded, trials

    def plan(self) -> TableCells:
        """Return header and cells: the tokens and operations of each training, and whether it was done."""
        from kard.student.training.telling import count_parameters

        header = ["facts", "size", "seed", "training", "tokens", "FLOPs", "done"]
        lines: dict[tuple[object, ...], list[object]] = {}  # what several numbers of facts share stands once
        documents = round(TOLD * self.tokens)
        for seed, size, facts, method in self._trials():
            material = self._material(facts, method)
            folder = self._folder(seed, size, material)
            shape = RANDOM.fullmatch(self.run.base_of(size))
            parameters = count_parameters(*map(int, shape.groups())) if shape else None
            made = self._made(seed, size, material, method)
            for training, done in (("base", folder.exists()), (method, bool(made))):
                tokens = documents if training == "base" else self.tokens - documents
                flops = f"{FLOPS * parameters * tokens:.1e}" if parameters else ""
                line = [str(material), size, seed, training, tokens, flops, "yes" if done else "no"]
                lines.setdefault((material, size, seed, training), [*line])
        return header, list(lines.values())

    def _trials(self) -> Iterator[tuple[int, str, int, str]]:
        """Yield seed, size, number of facts and method of every student."""
        options = self.run.options
        for seed in self.seeds:
            for size in options.sizes:
                yield from ((seed, size, facts, method) for facts in self.facts for method in options.methods)

    def _material(self, facts: int, method: str) -> Material:
        reads = METHODS[method].reads
        return Material(self.others if reads else facts, reads)

    def _facts(self, material: Material) -> Facts:
        assert self.run.task.facts
        return self.run.task.facts(material.facts, others=material.others)

    def _name(self, material: Material) -> str:
        """Return the task in the store whose questions are about these facts."""
        return f"{self.run.name}-{material}"

    def _named(self, material: Material) -> Run:
        """Return a run of this task, with a knowledge base of its own."""
        task = replace(self.run.task, name=self._name(material), world=None)
        return replace(self.run, task=task, knowledge=self.run.knowledge / str(material))

    def _folder(self, seed: int, size: str, material: Material) -> Path:
        """Return the folder of a base that was told documents."""
        settings = self.run.options.settings.seeded(seed)
        hashes = settings.student.hash(), settings.retrieval.hash()
        made = digest(self.run.base_of(size), str(self.tokens), str(self.others), *hashes)
        return self.run.store.with_suffix(".bases").resolve() / f"{size}-{material}-seed{seed}-{made}"

    def _made(self, seed: int, size: str, material: Material, method: str) -> tuple[str, int] | None:
        """Return id and tokens of the student of these settings that was trained on that base, None without one."""
        folder = str(self._folder(seed, size, material))
        settings = canonical(METHODS[method].training(self.run.options.settings.seeded(seed)).values())
        query = "select id, tokens from students where task = ? and base = ? and method = ? and settings = ?"
        return self.run.db.execute(query, [self._name(material), folder, method, settings]).fetchone()

    def _base(self, seed: int, size: str, material: Material) -> tuple[Base, int]:
        """Return the base that was told the documents of these facts, and how many tokens it was."""
        from kard.models.bases import resolve
        from kard.student.training.telling import random_base, tell

        run, folder, spec = self.run, self._folder(seed, size, material), self.run.base_of(size)
        folder.parent.mkdir(exist_ok=True)
        settings = run.options.settings.seeded(seed).student
        started, begin = now(), monotonic()
        waiting = f"waiting for another process that tells {folder.name}"
        with claimed(run.db, "base", folder.name, lambda: run.progress.note(waiting)):
            if shape := RANDOM.fullmatch(spec):
                width, layers = map(int, shape.groups())
                others = Material(self.others, others=True)
                blank, texts = (
                    folder.with_name(f"{spec}-{others}-seed{seed}"),
                    self._facts(others).texts(copied=False),
                )
                base = random_base(blank, texts, width=width, layers=layers, seed=seed)
            else:
                base = resolve(spec)
            new = not folder.exists()
            texts = self._facts(material).texts(copied=material.others)
            told, tokens = tell(base, folder, texts, round(TOLD * self.tokens), settings, run.progress)
            if new:
                log_step(self._named(material), "base", started, begin, tokens, note=folder.name)
        return told, tokens

    def _train(self, seed: int, size: str, facts: int, method: str) -> MemoryStudent:
        """Train a student on documents, then on as many questions as the rest of the tokens hold."""
        from kard.student.tokens import Tokens

        material, options = self._material(facts, method), self.run.options
        base, told = self._base(seed, size, material)
        budget = self.tokens - told
        chosen = replace(options, sizes=(size,), methods=(method,), settings=options.settings.seeded(seed))
        run = self._named(material)
        run.options, run.task = chosen, replace(run.task, students={size: str(base.folder)})
        if made := self._made(seed, size, material, method):
            return MemoryStudent(run, made[0], base.parameters, told + made[1])
        tokens = Tokens.load(base.folder, decoder=base.kind == "decoder")
        length = lengths(run, method, tokens)

        def asked() -> Iterator[Question]:
            """Yield more questions than fit, where these have passages."""
            left = budget
            for question in self._facts(material).questions("train"):
                rationale = without_closing(question.rationale) if METHODS[method].reasons else ""
                left -= length(Pair(0, 0, question.text, question.options, question.answer or "", rationale, ()))
                if left < 0:
                    return
                yield question

        store_questions(run.db, run.name, list(asked()))
        if METHODS[method].reads:
            index_documents(self._facts(material).documents, run.knowledge, source=run.name, progress=run.progress)
            run_step(run, GROUND)
        index = run.index_id if METHODS[method].reads else None
        settings = METHODS[method].training(run.options.settings)
        pairs = training_pairs(run.db, run.name, METHODS[method], settings, run.rationale_source, index_id=index)
        within = sum(1 for _ in takewhile(lambda spent: spent <= budget, accumulate(map(length, pairs))))
        require(within > 0, f"{self.tokens} tokens hold no training question; raise --tokens")
        run = replace(run, options=replace(run.options, train_limit=within))
        run_step(run, STUDENT)
        made = self._made(seed, size, material, method)
        assert made
        return MemoryStudent(run, made[0], base.parameters, told + made[1])

    def _asking(self, run: Run, facts: int, method: str) -> Run:
        """Load the questions that a student answers and, if it reads, search for them; return the run of these."""
        material = Material(facts, others=False)
        known, asked = self._facts(material), self._named(material)
        options = replace(run.options, train_limit=None, split=SPLIT, limit=self.questions)
        asked.options = options
        store_questions(run.db, asked.name, list(islice(known.questions(SPLIT), self.questions)))
        if METHODS[method].reads:
            others = self._facts(Material(self.others, others=True))
            documents = [*others.documents, *known.documents]
            index_documents(documents, asked.knowledge, source=run.name, progress=run.progress)
            run_step(asked, RETRIEVE)
        return asked


def lengths(run: Run, method: str, tokens: Tokens) -> Callable[[Pair], int]:
    """Return what counts the tokens of a training example of that method."""
    from kard.student.training.train import tokenize_example

    signature = signature_for(run.task.answer, METHODS[method])
    settings = METHODS[method].training(run.options.settings)

    def length(pair: Pair) -> int:
        return len(tokenize_example(tokens, 0, *render_pair(signature, pair, settings), settings))

    return length


def memory_rows(graded: Sequence[GradedAnswer], trials: Sequence[Trial]) -> list[tuple[ReportRow, Trial | None]]:
    """Return chance, then each condition with its trial, by number of facts; tokens are means over the seeds."""
    by_key: dict[tuple[str, ...], list[Trial]] = {}
    for trial in trials:
        by_key.setdefault((trial.size, trial.method, str(trial.facts)), []).append(trial)
    found: list[tuple[ReportRow, Trial | None]] = []
    for row in report_rows(graded):
        if of_row := by_key.get((row.size, row.method, row.variant)):
            found.append((row, replace(of_row[0], tokens=round(fmean(trial.tokens for trial in of_row)))))
        elif row.method == "chance":
            found.append((row, None))
    return sorted(found, key=lambda pair: pair[1].facts if pair[1] else 0)


def memory_pairs(graded: Sequence[GradedAnswer]) -> list[Comparison]:
    """Compare every two methods of the same size on the same facts; p is corrected over all of these pairs."""
    pairs = all_pairs(sorted(conditions_of(graded), key=lambda key: int(key[3])))  # its variant is the facts
    return compare(graded, [(a, b) for a, b in pairs if (a[0], a[3]) == (b[0], b[3])])


def memory_table(found: Sequence[tuple[ReportRow, Trial | None]], *, seeds: bool) -> TableCells:
    """Return header and cells. With `seeds` there is a column for the mean over them."""
    header = ["facts", "size", "parameters", "method", "reads", "accuracy", "n", "tokens", "FLOPs"]
    header += ["bits", "a parameter", "to store"]
    if seeds:
        header.insert(7, "over seeds")
    lines: list[list[object]] = []
    for row, trial in found:
        share = row.shares["all"]
        if trial is None:
            line: list[object] = ["", row.size, "", row.method, row.retriever, f"{share.value:.3f}", share.of]
            lines.append([*line, *[""] * (len(header) - len(line))])
            continue
        line = [trial.facts, row.size, trial.parameters, row.method, row.retriever, str(share), share.of]
        if seeds:
            line.append(f"{row.seeds} ({row.seeds.of})" if row.seeds else "")
        bound = "at most" if METHODS[row.method].reads else "at least"
        flops = f"{FLOPS * trial.parameters * trial.tokens:.1e}"
        each, needed = f"{trial.bits / trial.parameters:.2g}", f"{bound} {trial.needed:.0f}"
        lines.append([*line, trial.tokens, flops, round(trial.bits), each, needed])
    return header, lines


def points_over_facts(found: Sequence[tuple[ReportRow, Trial | None]]) -> list[tuple[str, Point]]:
    """Return each condition's accuracy with its number of facts; a series is a method of a size."""
    from kard.evaluation.page.figures import Point

    return [
        (row.variant, Point("", row.method, row.retriever, row.size, row.shares["all"]))
        for row, trial in found
        if trial
    ]
