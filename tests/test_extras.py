"""What students learn from besides a teacher's rationales: other orders of passages, rationales of their own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from kard.cli import choose, main
from kard.db import open_store
from kard.errors import Missing
from kard.methods import METHODS
from kard.pipeline.run import Run
from kard.pipeline.steps import EXTRAS, run_step
from kard.pipeline.students import train_student
from kard.student.examples import Pair, training_pairs

METALS = ("iron", "tin", "zinc", "copper")
DOCUMENTS = {f"d{n}": f"Thing {n} is made of {metal}, they say." for n, metal in enumerate(METALS * 2)}


@pytest.fixture
def folder(
    load_choice: Callable[..., Path],
    write_decoder: Callable[..., Path],
    write_encoder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Return a folder with bases, six training questions, each explained, and two test questions."""
    questions = [
        (f"q{n}", "train" if n < 6 else "test", f"What is thing {n} made of?", METALS, "ABCD"[n % 4],
         f"Thing {n} is made of {METALS[n % 4]}." if n < 6 else "")
        for n in range(8)
    ]  # fmt: skip
    folder = load_choice(DOCUMENTS, questions)
    monkeypatch.setenv("KARD_CACHE", str(folder / "cache"))
    write_decoder(folder / "decoder", words=METALS)
    write_encoder(folder / "encoder", words=[*METALS, "thing", "made"])
    return folder


@pytest.fixture
def words(folder: Path) -> list[str]:
    """Return options of a command whose student is tiny."""
    base = ("--base", f"tiny={folder / 'decoder'}", "--size", "tiny", "--dense-encoder", str(folder / "encoder"))
    short = ("--set", "decoding.max_new_tokens=4", "--set", "student.lora.rank=2")
    return [*base, *short, "--method", "kard", "--retriever", "bm25", "--store", str(folder / "kard.db")]


def invoke(*line: str) -> str:
    result = CliRunner().invoke(main, [*line, "--quiet"])
    assert result.exit_code == 0, result.output
    return result.stdout


def run_of(folder: Path, *overrides: str) -> Run:
    """Return the run that `words` and these settings mean."""
    return choose.run_of(
        "choice",
        store=folder / "kard.db",
        knowledge=folder / "kard.knowledge",
        quiet=True,
        sizes=("tiny",),
        methods=("kard",),
        retrievers=("bm25",),
        bases=(f"tiny={folder / 'decoder'}",),
        overrides=(
            "student.lora.rank=2",
            "decoding.max_new_tokens=4",
            f"retrieval.encoder={folder / 'encoder'}",
            *overrides,
        ),
    )


def taught(run: Run) -> list[Pair]:
    """Return what the run's student is taught."""
    settings = METHODS["kard"].training(run.options.settings)
    source, learned = run.rationale_source, run.extras_for("tiny", "kard")
    assert learned is not None
    return training_pairs(
        run.db, "choice", METHODS["kard"], settings, source, index_id=run.index_id, extras=learned
    )


def test_students_learn_with_the_passages_that_another_retriever_finds(folder: Path, words: list[str]) -> None:
    rows = json.loads(invoke("sweep", "choice", "--over", "student.passages=silver,dense", *words, "--json"))
    assert [row["cell"] for row in rows[2:]] == ["student.passages=silver", "student.passages=dense"]
    run = run_of(folder, "student.passages=dense")
    ranked = """
        select questions.id, title || ': ' || passages.text from questions
        join rankings on question_id = questions.id join ranked on ranking_id = rankings.id
        join passages on passages.id = passage_id
        where split = 'train' and rank <= 3 order by questions.id, rank"""
    nearest: dict[int, list[str]] = {}
    for question, text in run.db.execute(ranked):
        nearest.setdefault(question, []).append(text)
    read = {pair.question_id: list(pair.passages) for pair in taught(run)}
    assert read == nearest
    assert read != {pair.question_id: list(pair.passages) for pair in taught(run_of(folder))}
    students = run.db.execute("select data_sha256 from students where path <> ''").fetchall()
    assert len(set(students)) == 2
    assert run.resolved.student("tiny", "kard"), "the run finds the student again"
    again = json.loads(
        invoke("sweep", "choice", "--over", "student.passages=silver,dense", *words, "--dry-run", "--json")
    )
    assert {(row["trainings"], row["answers"]) for row in again} == {(0, 0)}


def test_students_learn_what_an_earlier_one_explains_rightly(folder: Path, words: list[str]) -> None:
    invoke("ground", "choice", "--store", str(folder / "kard.db"))
    share = "teaching.fraction=.5"
    run = run_of(folder, share, "student.own=3")
    assert run.resolved.student_data == {}, "nobody knows yet what it will learn"
    with pytest.raises(Missing, match="learns from what is not there yet"):
        train_student(run, "tiny", "kard")
    assert run_step(run, EXTRAS) == 3, "questions explained"
    logged = run.db.execute("select step, added from steps_log order by rowid").fetchall()
    assert logged == [("retrieve", 3), ("student", 1), ("answer", 3)]
    (first,) = run.db.execute("select id from students where path <> ''").fetchone()
    assert first == run_of(folder, share).resolved.student("tiny", "kard"), "it is the student without `own`"
    others = {row[0] for row in run.db.execute("select question_id from predictions")}
    explained = {pair.question_id for pair in taught(run_of(folder, share))}
    assert len(others) == len(explained) == 3
    assert not others & explained
    # What a random model writes is forced; one question gets three right texts, one of them without a reason.
    right = dict(run.db.execute("select id, answer from questions").fetchall())
    options = dict(zip("ABCD", METALS, strict=True))
    one, two, three = sorted(others)
    for question, sample, forced, letter in (
        (one, 0, None, right[one]),
        (one, 1, None, right[one]),
        (one, 2, None, right[one]),
        (two, 0, None, right[two]),
        (two, 1, "unread", right[two]),
        (two, 2, None, None),
        (three, 0, None, "A" if right[three] != "A" else "B"),
        (three, 1, None, None),
        (three, 2, "budget", right[three]),
    ):
        reasons = "" if (question, sample) == (one, 2) else f" Text {sample} on\n {question}."
        text = f"{reasons}\nAnswer: {options.get(letter or '', '')}"
        run.db.execute(
            "update samples set text = ?, answer = ?, forced = ? where sample = ? and prediction_id ="
            " (select id from predictions where question_id = ?)",
            [text, letter, forced, sample, question],
        )
    run.db.conn.commit()
    run.refresh()
    pairs = {(p.question_id, p.rationale): p for p in taught(run) if p.question_id not in explained}
    assert list(pairs) == [(one, f"Text 0 on {one}."), (one, f"Text 1 on {one}."), (two, f"Text 0 on {two}.")]
    read = dict(run.db.execute("select question_id, passages from predictions").fetchall())
    passages = dict(run.db.execute("select id, title || ': ' || text from passages").fetchall())
    assert pairs[one, f"Text 0 on {one}."].passages == tuple(passages[i] for i in json.loads(read[one]))
    assert {pair.answer for pair in pairs.values()} == {right[one], right[two]}

    invoke("train", "student", "choice", *words, "--set", share, "--set", "student.own=3")
    recipes = [json.loads(row[0]) for row in run.db.execute("select recipe from students where path <> ''")]
    counts = [
        (r["settings"].get("own"), *(r["data"].get(name) for name in ("questions", "rationales", "own")))
        for r in recipes
    ]
    assert counts == [(None, 3, 3, None), (3, 5, 3, 3)]
    states = {
        row["step"]: row
        for row in json.loads(
            invoke("status", "choice", *words, "--set", share, "--set", "student.own=3", "--json")
        )
    }
    assert (
        states["student"]["outdated"],
        states["training-extras"]["done"],
        states["training-extras"]["missing"],
    ) == (0, 3, 0)
    later = run_of(
        folder, share, "student.own=3", "decoding.temperature=.5", "decoding.endpoint=http://localhost:1/v1"
    )
    assert later.resolved.student("tiny", "kard"), "how it answers later decides nothing that it learned"
    cells = ("--over", "student.own=0,3", "--set", share)
    rows = json.loads(invoke("sweep", "choice", *cells, *words, "--json"))
    assert [row["cell"] for row in rows[2:]] == ["student.own=0", "student.own=3"]
    assert run.db.table("students").count_where("path <> ''") == 2, "both cells had their student"
    plan = json.loads(invoke("sweep", "choice", *cells, *words, "--dry-run", "--json"))
    assert {(row["trainings"], row["answers"]) for row in plan} == {(0, 0)}


def test_a_plan_counts_earlier_students_and_their_texts(folder: Path, words: list[str]) -> None:
    invoke("ground", "choice", "--store", str(folder / "kard.db"))
    cells = ("--over", "student.own=1,2", "--set", "teaching.fraction=.5")
    plan = json.loads(invoke("sweep", "choice", *cells, *words, "--dry-run", "--json"))
    assert [(row["trainings"], "training-extras 3" in row["other steps"]) for row in plan] == [(2, True), (1, True)]


def test_workers_make_the_students_and_answers_that_one_process_makes(folder: Path, words: list[str]) -> None:
    invoke("ground", "choice", "--store", str(folder / "kard.db"))
    for file in folder.glob("kard.*"):
        copy = folder / file.name.replace("kard.", "beside.")
        shutil.copytree(file, copy) if file.is_dir() else shutil.copy(file, copy)
    base = ("--base", f"other={folder / 'decoder'}", "--size", "tiny,other")
    cells = ("--over", "student.own=0,1", "--set", "teaching.fraction=.5")
    made: list[list[object]] = []
    for store, workers in (("kard.db", ()), ("beside.db", ("--workers", "2"))):
        line = [*cells, *words, *base, "--store", str(folder / store), *workers]
        invoke("sweep", "choice", *line)
        db = open_store(folder / store)
        students = db.execute("select id, data_sha256 from students order by id").fetchall()
        answers = db.execute(
            "select hash, question_id, text from evaluations e join predictions p on evaluation_id = e.id"
            " join samples on prediction_id = p.id order by 1, 2, 3"
        ).fetchall()
        made.append([students, answers])
        db.close()
        assert len(students) == 4
        assert len(answers) == 4 * 2 + 2 * 3, "two test questions each, three explained by each first one"
    assert made[0] == made[1]


def test_a_question_that_finds_nothing_is_learned_without_passages_and_one_that_is_not_ordered_waits(
    folder: Path, words: list[str]
) -> None:
    invoke("run", "choice", *words, "--set", "student.passages=dense")
    run = run_of(folder, "student.passages=dense")
    (odd,) = run.db.execute("select min(id) from questions where split = 'train'").fetchone()
    with run.db.atomic():
        run.db.execute("delete from rankings where question_id = ?", [odd])
    assert run.extras_for("tiny", "kard") is None
    found = "retrieval_id in (select id from retrievals where query = 'question' and question_id = ?)"
    with run.db.atomic():
        run.db.execute(f"delete from hits where {found}", [odd])
    assert {pair.question_id for pair in taught(run) if not pair.passages} == {odd}


def test_where_every_question_is_explained_or_nobody_reasons_no_earlier_student_is_asked(folder: Path) -> None:
    assert run_of(folder, "student.own=2").explaining is None
    run = run_of(folder, "teaching.fraction=.5", "student.own=2")
    assert run.explaining is not None
    assert replace(run, options=replace(run.options, methods=("ft", "ka-ft"))).explaining is None
    assert METHODS["ka-ft"].training(run.options.settings).own == 0


def test_dropping_the_step_drops_the_rationales_that_students_wrote(folder: Path, words: list[str]) -> None:
    settings = ("--set", "teaching.fraction=.5", "--set", "student.own=1")
    invoke("run", "choice", *words, *settings)
    run = run_of(folder, "teaching.fraction=.5", "student.own=1")
    assert run.db.table("evaluations").count_where("split = 'train'") == 1
    assert "training-extras" in invoke("status", "choice", *words, *settings)
    invoke("rebuild", "training-extras", "choice", *words, *settings, "--yes")
    assert run.db.table("evaluations").count_where("split = 'train'") == 0
    assert run.db.table("students").count == 0


def test_ordinary_students_do_not_rest_on_orders_of_passages(folder: Path, words: list[str]) -> None:
    invoke("run", "choice", *words)
    invoke("rebuild", "reranker", "choice", *words, "--yes")
    assert run_of(folder).db.table("students").count_where("path <> ''") == 1
