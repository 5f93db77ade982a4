"""Random sequences of changes and runs: what a store reports is what a new store of the same inputs reports."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from kard.config import (
    Decoding,
    Lora,
    Prompting,
    QueryForm,
    RerankerTraining,
    Retrieval,
    StudentTraining,
    TaskSettings,
)
from kard.db import open_store, rows
from kard.evaluation.condition_names import read_labels
from kard.knowledge.indexing import index_documents
from kard.pipeline.load import store_questions
from kard.pipeline.options import RunOptions, Teacher
from kard.pipeline.run import Run
from kard.pipeline.steps import run_steps
from kard.records import Document, Question, Rationale
from kard.tasks import Task
from kard.teacher.records import store_rationales

COLOURS = ("red", "blue", "green", "white")
TOWNS = ("Quill", "Brack", "Tarsk", "Vell", "Moss", "Fenn")
TRAINED = 4  # of the towns
RETRIEVERS = ("bm25", "reranker", "fused", "dense", "hybrid", "silver", "shuffled")


@dataclass(frozen=True)
class Inputs:
    """All that a run of these tests is made from."""

    train_limit: int | None = None
    teacher: Literal["guide", "other"] = "guide"
    rationale: int = 0  # version of the texts of some rationales
    passage: int = 0  # version of the text of a passage
    options: int = 0  # version of the options of some questions
    k: int = 1
    kappa: int = 4
    query: QueryForm = "question"
    max_df: float = 1.0
    epochs: int = 1  # of the student

    @property
    def settings(self) -> TaskSettings:
        retrieval = Retrieval(
            kappa=self.kappa, k=self.k, depth=3, query=self.query, max_df=self.max_df, max_df_from=0
        )
        lora = Lora(rank=2, alpha=4)
        return TaskSettings(
            retrieval=retrieval,
            reranker=RerankerTraining(lora=lora, epochs=1, batch=4, candidates=4, held_out=0.5),
            student=StudentTraining(lora=lora, epochs=self.epochs, batch=4),
            prompting=Prompting(shots=2, max_length=1024),
            decoding=Decoding(max_new_tokens=4, batch=8),
        )


CHANGES = st.one_of(
    *(
        st.tuples(st.just(name), st.sampled_from(values))
        for name, values in {
            "train_limit": [None, 3],
            "teacher": ["guide", "other"],
            "rationale": [0, 1, 2],
            "passage": [0, 1],
            "options": [0, 1],
            "k": [1, 2],
            "kappa": [3, 4],
            "query": ["question", "options"],
            "max_df": [1.0, 0.5],
            "epochs": [1, 2],
        }.items()
    )
)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory, write_encoder: Any, write_decoder: Any) -> Iterator[Task]:
    """Return a task with tiny random bases, of which few questions are enough to tune on."""
    folder = tmp_path_factory.mktemp("bases")
    words = ["gate", "river", *(word.lower() for word in (*TOWNS, *COLOURS))]
    write_encoder(folder / "encoder", words=words)
    write_decoder(folder / "decoder", words=words)
    parts = import_module("kard.programs._common")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KARD_CACHE", str(folder / "cache"))
        patch.setattr("kard.reranker.dataset.HELD_OUT_FROM", 2)
        patch.setattr("kard.retrieval.fusion.MIN_QUESTIONS", 1)
        yield Task(
            name="gates",
            about="Colours of town gates.",
            parse=parts.plain,
            teach=parts.Teach,
            answer=parts.Answer,
            program=parts.RetrieveThenAnswer,
            students={"tiny": str(folder / "decoder")},
            encoders={"tiny": str(folder / "encoder")},
        )


def options_of(number: int, version: int) -> tuple[str, ...]:
    """Return the options of a town's question; the right one stays."""
    return COLOURS[:3] if version == 0 or number % 2 else (*COLOURS[:2], COLOURS[3])


def text_of(number: int, teacher: str, version: int) -> str:
    """Return a rationale of the question's town, in version 1 of another one for some, in 2 for a held-out one."""
    town = TOWNS[(number + 2) % 6] if number in ((), (0, 2, 4), (4,))[version] else TOWNS[number]
    by = "Its gate is known" if teacher == "guide" else f"{TOWNS[(number + 1) % 6]} is near"
    return f"{by}: {town} gate {COLOURS[number % 2]}. So the answer is {COLOURS[number % 2]}."


def prepare(task: Task, folder: Path, inputs: Inputs) -> Run:
    """Bring the folder's store and knowledge base to the inputs; return the run."""
    documents = [
        Document(town, town, f"The gate of {town} is {COLOURS[i % 2]}. " + "It has a river. " * i)
        for i, town in enumerate(TOWNS)
    ]
    if inputs.passage:
        documents[1] = replace(documents[1], text="Brack lies far from Moss and has a gate.")
        documents[4] = replace(documents[4], text="Moss grows.")
    index_documents(documents, folder / "kb", source="towns")
    db = open_store(folder / "kard.db")
    if not db["questions"].count:
        questions = [
            Question(town, "train" if i < TRAINED else "test", f"Which colour has the gate of {town}?",
                     options_of(i, 0), "AB"[i % 2])
            for i, town in enumerate(TOWNS)
        ]  # fmt: skip
        store_questions(db, task.name, questions)
        for teacher in ("guide", "other"):
            texts = [Rationale(town, 0, text_of(i, teacher, 0), "AB"[i % 2]) for i, town in enumerate(TOWNS)]
            store_rationales(db, task.name, teacher, texts)
    for i, town in enumerate(TOWNS):  # by hand, as with any program for SQLite
        options = json.dumps(options_of(i, inputs.options))
        change(db, "questions", "options", options, "key = ?", town)
        for teacher in ("guide", "other"):
            text = text_of(i, teacher, inputs.rationale)
            where = (
                "question_id = (select id from questions where key = ?)"
                " and teacher_id = (select id from teachers where name = ?)"
            )
            change(db, "rationales", "text", text, where, town, f"recorded:{teacher}")
    options = RunOptions(
        settings=inputs.settings, sizes=("tiny",), methods=("kard", "few-shot"), retrievers=RETRIEVERS,
        train_limit=inputs.train_limit, teacher=Teacher(f"recorded:{inputs.teacher}"),
    )  # fmt: skip
    return Run(db, task, options, folder / "kard.db", folder / "kb", folder / "kard.adapters")


def change(db: Database, table: str, column: str, value: str, where: str, *values: str) -> None:
    with db.atomic():
        db.execute(f"update {table} set {column} = ? where {column} <> ? and {where}", [value, value, *values])


def counts(db: Database) -> dict[str, int]:
    return {name: int(db.table(name).count) for name in db.table_names()}


def reported(run: Run) -> Mapping[str, Any]:
    """Return what the store reports of the run's own conditions and retrievers, without ids of rows."""
    answers: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    sql = (
        "select q.key, p.answer, p.correct, p.passages, x.text from evaluations e"
        " join predictions p on p.evaluation_id = e.id join samples x on x.prediction_id = p.id"
        " join questions q on q.id = p.question_id where e.hash = ? order by q.key"
    )
    conditions = run.conditions()
    for condition in conditions:
        row = condition.row(run.name)
        answers[condition.method, condition.retriever, str(row["hash"])] = run.db.execute(
            sql, [row["hash"]]
        ).fetchall()
    labels = {
        "bm25",
        *(str(c.reranker_id) for c in conditions),
        *(f"{c.retriever} {c.retriever_id}" for c in conditions),
    }
    retrieval = run.options.settings.retrieval
    hits = [
        (row["key"], row["gold"], row["retriever"], row["rank"], row["needed"], row["held"])
        for row in rows(run.db, "first_hits", task=run.name, split=run.split)
        if row["retriever"] in labels
        and row["index_id"] == run.index_id
        and row["teacher"] in (None, run.options.teacher and run.options.teacher.name)
        and row["form"] == retrieval.query
        and row["max_df"] in (None, retrieval.max_df)
        and row["depth"] == retrieval.kappa
    ]
    return {"answers": answers, "hits": sorted(hits, key=str)}


def assert_told_apart(run: Run) -> None:
    """Assert that no two conditions of one seed share a row of the report."""
    labels = read_labels(run.db, run.name, run.split)
    runs = rows(run.db, "internal/condition_settings", task=run.name, split=run.split)
    keys = {(r["size"], r["method"], r["retriever"], labels[r["evaluation_id"]]) for r in runs}
    assert len(keys) == len(runs)


class Fresh:
    """New stores of inputs, each made once; the first is that of the default inputs."""

    def __init__(self, task: Task, folders: pytest.TempPathFactory) -> None:
        self._task, self._folders, self._known = task, folders, dict[Inputs, Mapping[str, Any]]()
        self.first = folders.mktemp("first")
        self.reports(Inputs(), self.first)

    def reports(self, inputs: Inputs, folder: Path | None = None) -> Mapping[str, Any]:
        """Return what a new store reports of these inputs."""
        if inputs not in self._known:
            run = prepare(self._task, folder or self._folders.mktemp("fresh"), inputs)
            run_steps(run)
            self._known[inputs] = reported(run)
            run.db.conn.close()
        return self._known[inputs]


@pytest.fixture(scope="module")
def fresh(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    return Fresh(task, tmp_path_factory)


@settings(
    max_examples=2,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # a run takes a second: nothing is shrunk
    suppress_health_check=[HealthCheck.too_slow],
)
@example([("rationale", 1), ("options", 1), ("rationale", 0), ("rationale", 2)])
@example([("max_df", 0.5), ("passage", 1), ("kappa", 3), ("teacher", "other")])
@given(st.lists(CHANGES, min_size=1, max_size=3))
def test_a_store_reports_what_a_new_store_of_the_same_inputs_reports(
    task: Task, fresh: Fresh, tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, Any]]
) -> None:
    inputs, folder = Inputs(), tmp_path_factory.mktemp("used") / "store"
    shutil.copytree(fresh.first, folder)
    for name, value in changes:
        inputs = replace(inputs, **{name: value})
        run, after = prepare(task, folder, inputs), f"after {name} = {value}"
        run_steps(run)
        now, expected = reported(run), fresh.reports(inputs)
        assert now["answers"] == expected["answers"], after
        assert now["hits"], after
        assert set(now["hits"]) <= set(expected["hits"]), after  # those of a deeper search are shown as such
        before = counts(run.db)
        again = prepare(task, folder, inputs)
        assert not any(run_steps(again).values()), after
        assert counts(again.db) == before, after
        assert_told_apart(again)
        for of in (run, again):
            of.db.conn.close()
