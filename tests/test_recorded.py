"""Rationales in and out of files."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlite_utils import Database

from kard.cli import main
from kard.db import open_store
from kard.errors import BadInput, Missing
from kard.pipeline.load import store_questions
from kard.records import Question, Rationale
from kard.teacher.records import export_rationales, load_rationales, store_rationales

QUESTIONS = (
    Question("q1", "train", "Does iron rust?", ("yes", "no"), "A"),
    Question("q2", "dev", "Does gold rust?", ("yes", "no"), "B"),
    Question("q3", "train", "Does it rain?", ("yes", "no"), None),
)


@pytest.fixture
def db(store: Database) -> Database:
    store_questions(store, "tiny", QUESTIONS)
    return store


def row(key: str = "q1", sample: Any = 0, text: str = "So the answer is yes.", **more: Any) -> dict[str, Any]:
    return {"question_id": key, "sample": sample, "rationale": text, "model": "m-1", "answer_given": True, **more}


def write_rows(path: Path, rows: Sequence[object]) -> Path:
    text = "".join(f"{r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)}\n" for r in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def stored_rationales(db: Database) -> list[tuple[Any, ...]]:
    return db.execute(
        "select q.key, t.name, r.sample, r.conclusion, r.accepted from rationales r"
        " join questions q on q.id = r.question_id join teachers t on t.id = r.teacher_id order by 1, 2, 3"
    ).fetchall()


def test_a_rationale_is_accepted_when_its_own_conclusion_is_the_gold_answer(db: Database, tmp_path: Path) -> None:
    rows = [
        row("q1", 0),
        row("q1", 1, "Therefore, the answer is (B) no."),
        row("q2", 0, "So the answer is no.", model="m-2"),
        row("q2", 1, "Gold is noble.", model="m-2"),
        row("q3", 0, "So the answer is yes."),
    ]
    assert load_rationales(db, "tiny", write_rows(tmp_path / "r.jsonl.gz", rows)).added == 5
    assert stored_rationales(db) == [
        ("q1", "recorded:m-1", 0, "A", 1),
        ("q1", "recorded:m-1", 1, "B", 0),
        ("q2", "recorded:m-2", 0, "B", 1),
        ("q2", "recorded:m-2", 1, None, 0),
        ("q3", "recorded:m-1", 0, "A", 0),
    ]


def test_loading_a_file_twice_equals_once(db: Database, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "r.jsonl", [row("q1"), row("q2", 3)])
    assert load_rationales(db, "tiny", path).added == 2
    before = list(db.conn.iterdump())
    assert load_rationales(db, "tiny", path).added == 0
    assert list(db.conn.iterdump()) == before


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (row("q9"), "no question 'q9' of tiny in the store; load the questions first with: kard load tiny FILE"),
        (row("q1"), "sample 0 of question 'q1' stands at"),
        (row("q2", -1), "field 'sample' must be a number from 0, not -1"),
        (row("q2", True), "field 'sample' must be a number from 0, not True"),
        (row("q2", "one"), "field 'sample' must be a number from 0, not 'one'"),
        (row("q2", text=" "), "no text in 'rationale'"),
        (row("q2", text="half \ud800"), "half a character"),
        (row("q2", model=None), "no text in 'model'"),
        (row("q2", answer_given="perhaps"), "field 'answer_given' must be true or false"),
        ({"question_id": "q2", "sample": 0, "model": "m"}, "no field 'rationale'"),
        ([1], "expected a JSON object"),
        ("{", "not JSON"),
    ],
)
def test_a_bad_row_is_named_by_its_line_and_nothing_is_loaded(
    db: Database, tmp_path: Path, bad: object, problem: str
) -> None:
    text = bad if isinstance(bad, str) else json.dumps(bad)
    path = write_rows(tmp_path / "r.jsonl", [row("q1"), text])
    with pytest.raises(BadInput) as caught:
        load_rationales(db, "tiny", path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert stored_rationales(db) == []
    assert db.table("teachers").count == 0


def test_a_broken_gzip_is_refused_and_nothing_is_loaded(db: Database, tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "r.jsonl.gz", [row("q1", i, f"Reason {i * i}. The answer is yes.") for i in range(200)]
    )
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(BadInput, match="the gzip ends early"):
        load_rationales(db, "tiny", path)
    assert stored_rationales(db) == []


def test_another_text_for_a_stored_sample_is_refused_and_nothing_is_loaded(db: Database, tmp_path: Path) -> None:
    load_rationales(db, "tiny", write_rows(tmp_path / "one.jsonl", [row("q1")]))
    path = write_rows(tmp_path / "two.jsonl", [row("q2"), row("q1", text="The answer is no.")])
    with pytest.raises(BadInput, match=r"two.jsonl:2: sample 0 of question 'q1' is in the store with another text"):
        load_rationales(db, "tiny", path)
    assert stored_rationales(db) == [("q1", "recorded:m-1", 0, "A", 1)]


def test_rationales_that_came_with_questions_conclude_on_what_they_explain(db: Database) -> None:
    given = [Rationale("q1", 0, "Iron reacts with water.", "A"), Rationale("q2", 0, "So the answer is yes.", "B")]
    assert store_rationales(db, "tiny", "notes", given).added == 2
    assert stored_rationales(db) == [("q1", "recorded:notes", 0, "A", 1), ("q2", "recorded:notes", 0, "A", 0)]
    with pytest.raises(BadInput, match="kard load tiny FILE"):
        store_rationales(db, "tiny", "notes", [Rationale("q1", 1, "x"), Rationale("q9", 0, "y")])
    assert len(stored_rationales(db)) == 2


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_an_exported_file_loads_as_the_same_rationales(db: Database, tmp_path: Path, name: str) -> None:
    rows = [
        row("q1", 0, "Line one.\nThe answer is \N{LEFT DOUBLE QUOTATION MARK}yes\N{RIGHT DOUBLE QUOTATION MARK}."),
        row("q1", 4),
        row("q2", 0, model="m-2", answer_given=False),
        {k: v for k, v in row("q2", 0, model="m-3").items() if k != "answer_given"},
    ]
    load_rationales(db, "tiny", write_rows(tmp_path / "in.jsonl", rows))
    path = tmp_path / name
    assert export_rationales(db, "tiny", path) == 4
    raw = path.read_bytes()
    text = gzip.decompress(raw) if name.endswith(".gz") else raw
    assert [json.loads(line) for line in text.splitlines()] == rows

    other = open_store(tmp_path / "other.db")
    store_questions(other, "tiny", QUESTIONS)
    assert load_rationales(other, "tiny", path).added == 4
    assert stored_rationales(other) == stored_rationales(db)
    export_rationales(other, "tiny", path)
    assert path.read_bytes() == raw
    assert sorted(p.name for p in tmp_path.iterdir() if "out" in p.name) == [name]
    other.conn.close()


def test_memory_of_an_export_does_not_grow_with_the_rationales(db: Database, tmp_path: Path) -> None:
    peaks: list[int] = []
    for number in (1, 200, 2000):  # the first loads what is loaded once
        texts = [Rationale("q1", sample, f"{sample}" + "x" * 500) for sample in range(number)]
        store_rationales(db, "tiny", "notes", texts)
        tracemalloc.start()
        assert export_rationales(db, "tiny", tmp_path / "out.jsonl") == number
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 100_000, "the texts take a million bytes"


def test_the_rationales_of_one_teacher_can_be_exported(db: Database, tmp_path: Path) -> None:
    load_rationales(db, "tiny", write_rows(tmp_path / "in.jsonl", [row("q1"), row("q1", model="m-2")]))
    path = tmp_path / "out.jsonl"
    assert export_rationales(db, "tiny", path, "recorded:m-2") == 1
    assert json.loads(path.read_text())["model"] == "m-2"
    with pytest.raises(Missing, match="no rationales of nobody for tiny"):
        export_rationales(db, "tiny", path, "nobody")
    assert json.loads(path.read_text())["model"] == "m-2"


def test_teachers_that_share_a_model_stay_apart_in_a_file(db: Database, tmp_path: Path) -> None:
    for teacher in ("aaaaaaaabb", "ccccccccdd"):
        db.table("teachers").insert(
            {"id": teacher, "name": "m", "model": "m", "instructions": "", "sampling": "{}", "created": ""}
        )
        db.execute(
            "insert into rationales (question_id, teacher_id, sample, text, accepted, created)"
            " values (1, ?, 0, ?, 0, '')",
            [teacher, teacher],
        )
    path = tmp_path / "out.jsonl"
    assert export_rationales(db, "tiny", path) == 2
    assert [json.loads(line)["model"] for line in path.read_text().splitlines()] == ["m@aaaaaaaa", "m@cccccccc"]


@pytest.mark.parametrize("name", ["out.csv", "nowhere/out.jsonl"])
def test_a_file_that_cannot_be_written_is_refused_in_one_line(db: Database, tmp_path: Path, name: str) -> None:
    store_rationales(db, "tiny", "notes", [Rationale("q1", 0, "x")])
    with pytest.raises(BadInput, match=r"out\.(csv|jsonl): cannot"):
        export_rationales(db, "tiny", tmp_path / name)


def test_recorded_rationales_of_a_published_teacher_load_and_export_unchanged(
    store: Database, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "strategyqa"
    lines = (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    store_questions(
        store,
        "real",
        [
            Question(q["id"], q["split"], q["question"], tuple(q["options"]), q["answer"])
            for q in map(json.loads, lines)
        ],
    )
    source = folder / "rationales-dev-gpt-4.jsonl.gz"
    assert load_rationales(store, "real", source).added == 343
    assert load_rationales(store, "real", source).added == 0
    path = tmp_path / "out.jsonl.gz"
    assert export_rationales(store, "real", path) == 343
    with gzip.open(source, "rt") as original, gzip.open(path, "rt") as exported:
        first, second = (
            {json.dumps(json.loads(line), sort_keys=True) for line in stream} for stream in (original, exported)
        )
    assert first == second


def test_export_is_a_command(tmp_path: Path, tiny_file: Path) -> None:
    store = tmp_path / "kard.db"
    db = open_store(store)
    store_questions(db, "tiny", QUESTIONS)
    store_rationales(db, "tiny", "notes", [Rationale("q1", 0, "The answer is yes.")])
    db.conn.close()
    out = tmp_path / "out.jsonl"
    result = CliRunner().invoke(main, ["export", str(tiny_file), str(out), "--store", str(store)])
    assert (result.exit_code, result.output) == (0, f"1 rationales written to {out}\n")
    result = CliRunner().invoke(main, ["export", str(tiny_file), str(out), "--store", str(store), "--teacher", "x"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: no rationales of x for tiny")


def test_loading_says_how_many_rationales_train_and_why_the_others_do_not(tmp_path: Path) -> None:
    questions = [{"id": str(i), "question": "Is it?", "answer": "A", "split": "train"} for i in range(7)]
    texts = ["So the answer is (A) yes."] * 2 + ["So the answer is (B) no."] * 3 + ["It depends."]
    texts.append("Iron is a metal that rusts in wet air, and it sinks in water, so that it cannot be said that")
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(row) for row in questions))
    recorded = [
        {"question_id": str(i), "sample": 0, "rationale": text, "model": "guide"} for i, text in enumerate(texts)
    ]
    (tmp_path / "r.jsonl").write_text("\n".join(json.dumps(row) for row in recorded))
    store = str(tmp_path / "kard.db")
    command = [
        "load",
        "choice",
        str(tmp_path / "q.jsonl"),
        "--rationales",
        str(tmp_path / "r.jsonl"),
        "--store",
        store,
    ]
    lines = CliRunner().invoke(main, command).output.splitlines()
    assert "7 rationales of choice: 2 accepted, 2 unread, 3 rejected; only accepted ones train" in lines
    at = lines.index("7 rationales of choice: 2 accepted, 2 unread, 3 rejected; only accepted ones train")
    assert lines[at + 1 : at + 7] == [
        "  3 rejected: it concludes on another answer than the right one, as in '2': ...So the answer is (B) no.",
        f"    more: kard rationales choice --verdict rejected --store {store}",
        "  1 unread: no answer can be read at its end, which may be cut, as in '6': ..." + texts[6][-80:],
        f"    more: kard rationales choice --verdict unread --store {store}",
        "  1 unread: no answer, or more than one, is named where it concludes, as in '5': ...It depends.",
        f"    more: kard rationales choice --verdict unread --store {store}",
    ]
    more = CliRunner().invoke(main, ["rationales", "choice", "--verdict", "rejected", "--store", store, "--json"])
    assert len(json.loads(more.output)) == 3
