"""The store: canned queries give what one counts by hand, search finds every word, overlaps are found once."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlite_utils import Database, Migrations

from kard.cli import main
from kard.config import SILVER_DEPTH, TaskSettings
from kard.db import about, insert_ignoring, open_store, parameters, query_names, required, rows, sql, writing
from kard.errors import NoStore
from kard.evaluation.contamination import (
    MIN_WORDS,
    NGRAM_WORDS,
    Overlap,
    QuestionFinder,
    normalized_words,
    word_ngrams,
)
from kard.evaluation.report import text_notes
from kard.pipeline import steps
from kard.pipeline.contamination import SCREEN
from kard.pipeline.options import RunOptions
from kard.pipeline.run import Run
from kard.tasks import Task

STAMP = "2026-11-24T00:00:00+00:00"
VALUES: dict[str, object] = {"text": "iron", "one": 1, "other": 2, "split": "test", "task": "tiny", "k": 3}


def question(db: Database, key: int, split: str, text: str, answer: str = "A") -> None:
    values = [key, "tiny", f"q{key}", split, text, '["yes", "no"]', answer, "", "[]", f"h{key}", STAMP]
    db.execute("insert into questions values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)


def passage(db: Database, key: str, text: str, document: str = "d") -> None:
    db.execute("insert into passages values (?, ?, 0, ?, ?)", [key, document, f"On {key}", text])


def condition(db: Database, key: int, split: str, student: str, answers: dict[int, tuple[str | None, int]]) -> None:
    db.execute(
        "insert into evaluations (id, task, split, student_id, retriever, k, decoding, hash, created)"
        " values (?, 'tiny', ?, ?, 'bm25', 1, '{}', ?, ?)",
        [key, split, student, f"e{key}", STAMP],
    )
    db.conn.executemany(
        "insert into predictions"
        " (evaluation_id, question_id, answer, correct, votes, passages, milliseconds, flops, created)"
        " values (?, ?, ?, ?, 1, '[\"p1\"]', 2.0, 1.0, ?)",
        [(key, q, answer, correct, STAMP) for q, (answer, correct) in answers.items()],
    )


@pytest.fixture
def small(store: Database) -> Database:
    """Return a store of two students, three test questions, a training question, a rationale, judgements."""
    db = store
    for key, split, text, answer in (
        (1, "train", "Does gold rust?", "B"),
        (2, "test", "Does iron rust?", "A"),
        (3, "test", "Does tin melt?", "A"),
        (4, "test", "Is lead light?", "B"),
    ):
        question(db, key, split, text, answer)
    for key, text in (("p1", "Iron rusts in wet air."), ("p2", "Tin melts."), ("p3", "Lead is heavy.")):
        passage(db, key, text)
    db.execute("insert into indexes values ('i', 'kb', 3, 'a', ?)", [STAMP])
    db.execute("insert into teachers values ('t', 'guide', 'guide', '', '{}', ?)", [STAMP])
    db.execute(
        "insert into rationales (id, question_id, teacher_id, sample, text, conclusion, accepted, cost, created)"
        " values (1, 2, 't', 0, 'Iron rusts. So the answer is yes.', 'A', 1, 0.5, ?)",
        [STAMP],
    )
    db.execute(
        "insert into retrievals values (1, 'i', 2, null, 'question', 3, 1.0, ?, 'question', 'rationale', 1)",
        [STAMP],
    )
    db.conn.executemany("insert into hits values (1, ?, ?, 1.0, null)", [(1, "p3"), (2, "p1"), (3, "p2")])
    for student in ("one", "two"):
        db.execute(
            "insert into students (id, task, method, size, base, base_sha256, settings, data_sha256, seed,"
            " examples, tokens, loss, path, sha256, milliseconds, created)"
            " values (?, 'tiny', 'kard', ?, 'b', '', '{}', '', 0, 9, 9, 0.5, '', '', 1.0, ?)",
            [student, student, STAMP],
        )
    condition(db, 1, "test", "one", {2: ("A", 1), 3: ("B", 0), 4: (None, 0)})
    condition(db, 2, "test", "two", {2: ("B", 0), 3: ("A", 1), 4: ("A", 0)})
    condition(db, 3, "train", "one", {1: ("B", 1)})
    db.execute(
        "insert into judgements (question_id, passage_id, verdict, author, created)"
        " values (2, 'p1', 'good', 'me', ?)",
        [STAMP],
    )
    db.execute(
        "insert into judgements (question_id, rationale_id, verdict, author, created)"
        " values (2, 1, 'bad', 'me', ?)",
        [STAMP],
    )
    db.conn.commit()
    return db


@pytest.fixture
def plain(small: Database, tmp_path: Path) -> Iterator[Database]:
    """Return the small store, with an opinion, a reranker's order and a fused one, as any program opens it."""
    small.execute("insert into verifiers values ('v', 'judge', 'judge', '', '{}', ?)", [STAMP])
    small.execute("insert into verifications values (1, 'v', 'A', 1, 'It says (A).', 5, 5, 0.25, 1.0, ?)", [STAMP])
    small.execute(
        "insert into retrievals values (2, 'i', 2, 1, 'rationale', 3, 1.0, ?, 'question', 'rationale', 1)", [STAMP]
    )
    small.execute("insert into hits values (2, 1, 'p1', 1.0, null)")
    small.execute(
        "insert into rerankers (id, task, base, base_sha256, index_id, settings, data_sha256, questions, metrics,"
        " path, sha256, milliseconds, created) values ('r', 'tiny', 'b', '', 'i', '{}', '', 1, '{}', '', '', 1, ?)",
        [STAMP],
    )
    small.execute("insert into rerank_scores values ('r', 1, 1, 'p1', 1.0)")
    small.execute(
        "insert into retrievers (id, kind, base, base_sha256, settings, milliseconds, created)"
        " values ('f', 'fused', 'b', '', '{}', 1.0, ?)",
        [STAMP],
    )
    small.execute("insert into rankings values (1, 'f', 'i', 2, 3, 1.0, ?)", [STAMP])
    small.execute("insert into ranked values (1, 1, 'p1', 1.0)")
    small.execute("insert into evidence values (2, 'd')")
    small.execute("insert into overlap_checks values (2, 'x', ?)", [STAMP])
    small.execute(
        "insert into overlaps (question_id, other_question_id, kind, share, created) values (2, 1, 'text', 1, ?)",
        [STAMP],
    )
    small.execute(
        "insert into failed_replies (question_id, teacher_id, sample, outcome, text, created)"
        " values (2, 't', 1, 'empty', '', ?)",
        [STAMP],
    )
    small.execute(
        "insert into samples (prediction_id, sample, text, answer, prompt_tokens, completion_tokens)"
        " select id, 0, 'so', 'A', 1, 1 from predictions"
    )
    small.conn.commit()
    db = Database(tmp_path / "kard.db")
    assert db.execute("pragma foreign_keys").fetchone() == (0,)
    yield db
    db.close()


PARTS = ("hits", "rerank_scores", "ranked", "samples")
WHOLES = ("retrievals", "rankings", "predictions", "verifications", "judgements")


@pytest.mark.parametrize(
    "same",
    ["rationales set text = text", "questions set text = text, options = options, answer = answer"],
)
def test_an_update_that_changes_nothing_deletes_nothing(plain: Database, same: str) -> None:
    before = {name: list(plain.query(f"select * from {name}")) for name in (*WHOLES, *PARTS)}
    assert all(before.values())
    plain.execute(f"update {same}")
    assert {name: list(plain.query(f"select * from {name}")) for name in before} == before


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("update questions set text = 'Does iron gleam?' where id = 2", (0, 0, 5, 1, 1)),
        ('update questions set options = \'["no", "yes"]\' where id = 2', (0, 0, 5, 1, 1)),
        ("update questions set answer = 'B' where id = 2", (0, 0, 5, 1, 1)),
        ("update questions set answer = null where id = 2", (0, 0, 5, 1, 1)),
        ("update rationales set text = 'It gleams.'", (1, 1, 7, 0, 1)),
        ("delete from retrievals", (0, 1, 7, 1, 2)),
        ("delete from rationales", (1, 1, 7, 0, 1)),
        ("delete from evaluations", (2, 1, 0, 1, 2)),
        ("delete from questions", (0, 0, 0, 0, 0)),
    ],
)
def test_what_belonged_to_a_deleted_row_is_gone_whichever_program_deleted_it(
    plain: Database, change: str, left: tuple[int, ...]
) -> None:
    plain.execute(change)
    assert tuple(plain.table(name).count for name in WHOLES) == left
    assert plain.execute("pragma foreign_key_check").fetchall() == []


@pytest.mark.parametrize(("answer", "right"), [("B", 0), (None, 0), ("A", 1)])
def test_another_right_answer_judges_paid_texts_again_and_loses_none(
    plain: Database, answer: str | None, right: int
) -> None:
    plain.execute("update questions set answer = 'B' where id = 2")
    plain.execute("update questions set answer = ? where id = 2", [answer])
    rationales = plain.execute("select text, conclusion, accepted, cost from rationales").fetchall()
    assert rationales == [("Iron rusts. So the answer is yes.", "A", right, 0.5)]
    assert plain.execute("select answer, agrees, cost from verifications").fetchall() == [("A", right, 0.25)]
    plain.execute("update rationales set conclusion = null")
    plain.execute("update verifications set answer = null")
    plain.execute("update questions set answer = ? where id = 2", ["B" if answer != "B" else None])
    assert plain.execute("select accepted from rationales").fetchall() == [(0,)]  # none is never the right one
    assert plain.execute("select agrees from verifications").fetchall() == [(0,)]


def run_query(db: Database, name: str, **given: object) -> list[dict[str, Any]]:
    return rows(db, name, **{**dict.fromkeys(parameters(name)), **given})


def test_the_views_and_the_settings_have_one_silver_depth(store: Database) -> None:
    views = dict(store.execute("select name, sql from sqlite_master where type = 'view'").fetchall())
    for name in ("rationale_passages", "training_pairs"):
        assert re.findall(r"h\.rank <= (\d+)", views[name]) == [str(SILVER_DEPTH)]


@pytest.mark.parametrize("empty", [None, ""])
def test_every_query_runs_with_its_required_parameters_alone(small: Database, empty: str | None) -> None:
    for name in query_names():
        # The sqlite3 program leaves a missing parameter null; datasette passes an empty text, which queries allow.
        by_text = set(parameters(name)) <= {*VALUES, "key", "teacher", "verdict", "judged", "limit", "share"}
        values = {
            p: VALUES.get(p, 1) if p in required(name) else (empty if by_text else None) for p in parameters(name)
        }
        cursor = small.conn.execute(sql(name), values)
        assert cursor.description, name
        cursor.fetchall()
        assert about(name)[-1] in ".?:", name


def test_the_required_parameters_are_read_from_the_query() -> None:
    assert required("search_passages") == ["text"]
    assert set(parameters("search_passages")) == {"text", "limit"}
    assert required("accuracy") == []
    assert parameters("steps") == ["task"]  # without those in comments and quoted texts


def test_the_list_shows_parameters_and_errors_name_wrong_ones(small: Database, tmp_path: Path) -> None:
    path = str(tmp_path / "kard.db")
    listed = json.loads(CliRunner().invoke(main, ["query", "--json", "--store", path]).output)
    assert {"query": "accuracy", "parameters": "[split] [task]"} in [
        {k: row[k] for k in ("query", "parameters")} for row in listed
    ]
    for arguments, message in (
        (["search_questions"], "needs text; give it with: kard query search_questions -p text VALUE"),
        (["accuracy", "-p", "colour", "red"], "no parameter 'colour'; it has split, task"),
        (["accuracies"], "no canned query 'accuracies'"),
        (["accuracy", "-p", "task", "tusk"], "no questions of tusk in the store; it has "),
        (["accuracy", "-p", "split", "tset"], "no questions of tset in the store; it has "),
    ):
        done = CliRunner().invoke(main, ["query", *arguments, "--store", path])
        assert (done.exit_code, len(done.output.splitlines())) == (1, 1)
        assert message in done.output
    done = CliRunner().invoke(main, ["query", "accuracy", "-p", "split", "train", "--json", "--store", path])
    assert [(r["split"], r["questions"], r["correct"]) for r in json.loads(done.output)] == [("train", 1, 1)]


def test_texts_that_ran_out_of_tokens_are_counted_apart_from_those_that_named_no_option(small: Database) -> None:
    predictions = [
        row[0] for row in small.execute("select id from predictions where evaluation_id = 1 order by id")
    ]
    written = (("so", "budget"), ("\n Answer: iron", "unread"), ("so\nAnswer: iron", "budget"))
    for number, (prediction, (text, forced)) in enumerate(zip(predictions, written, strict=False)):
        small.execute(
            "insert or replace into samples"
            " (prediction_id, sample, text, answer, forced, cut, prompt_tokens, completion_tokens)"
            " values (?, 0, ?, 'A', ?, ?, 1, 1)",
            [prediction, text, forced, int(number == 0)],
        )
    (row,) = [row for row in run_query(small, "texts", task="tiny", split="test") if row["evaluation_id"] == 1]
    assert [row[name] for name in ("texts", "forced_at_budget", "forced_unread", "cut_prompts")] == [3, 2, 1, 1]
    assert row["without_reason"] == 1
    assert text_notes([row]) == [
        "3 of 3 answers were forced: 2 at the token budget, 1 because the text named no option; "
        "by condition: kard query texts",
        "1 of 3 rationales are empty; by condition: kard query texts",
        "1 of 3 prompts lost passage text; raise student.max_length, or lower retrieval.k",
    ]
    assert (
        text_notes([row, {**row, "method": "ft"}])[1]
        == "1 of 3 rationales are empty; by condition: kard query texts"
    )
    assert text_notes([{**row, **dict.fromkeys(row, 0), "method": "kard"}]) == []
    with pytest.raises(sqlite3.IntegrityError):
        small.execute("update samples set forced = 'yes'")


def test_two_students_are_compared_question_by_question(small: Database) -> None:
    (pair,) = run_query(small, "pairs", split="test")
    assert {k: pair[k] for k in ("one", "other", "questions", "both", "one_alone", "other_alone", "neither")} == {
        "one": 1,
        "other": 2,
        "questions": 3,
        "both": 0,
        "one_alone": 1,
        "other_alone": 1,
        "neither": 1,
    }
    differing = run_query(small, "disagreements", one=1, other=2)
    assert [(r["key"], r["one_says"], r["other_says"]) for r in differing] == [
        ("q2", "A", "B"),
        ("q3", "B", "A"),
        ("q4", None, "A"),
    ]
    assert [(r["key"], r["conditions"], r["answers"]) for r in run_query(small, "wrong_everywhere")] == [
        ("q4", 2, "unread,A")
    ]


def test_overfitting_is_training_accuracy_minus_held_out_accuracy(small: Database) -> None:
    shares = {r["size"]: (r["train"], r["test"], r["gap"]) for r in run_query(small, "overfitting")}
    assert shares == {"one": (1.0, 0.3333, 0.6667), "two": (None, 0.3333, None)}


def test_costs_are_summed_over_the_rows_of_each_step(small: Database) -> None:
    costs = {r["step"]: (r["units"], r["cost"]) for r in run_query(small, "cost_and_time")}
    assert costs == {"teach": (1, 0.5), "retrieve": (1, None), "student": (2, None), "answer": (7, None)}


def test_judged_rows_have_their_ranks_and_verdicts(small: Database) -> None:
    (hit,) = run_query(small, "judged_hits")
    assert (hit["key"], hit["verdict"], hit["bm25_rank"], hit["readings"]) == ("q2", "good", 2, 2)
    (rationale,) = run_query(small, "judged_rationales")
    assert (rationale["judged"], rationale["verdict"]) == ("bad", "accepted")
    (share,) = run_query(small, "hits_at_k_judged")
    assert (share["retriever"], share["hits_at_1"], share["hits_at_3"]) == ("bm25", 0.0, 1.0)
    (shown,) = run_query(small, "rationales", judged="yes")
    assert (shown["good"], shown["bad"]) == (0, 1)


def test_a_judgement_is_of_one_thing_and_each_author_judges_it_once(small: Database) -> None:
    insert = "insert into judgements (question_id, passage_id, rationale_id, verdict, author, created)"
    for values in (("p1", 1, "good", "x"), (None, None, "good", "x"), ("p2", None, "fine", "x")):
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            small.conn.execute(f"{insert} values (2, ?, ?, ?, ?, '')", values)
    for again in (("p1", None, "bad", "me"), (None, 1, "good", "me")):
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            small.conn.execute(f"{insert} values (2, ?, ?, ?, ?, '')", again)
    small.conn.execute(f"{insert} values (2, 'p1', null, 'bad', 'you', '')")


@settings(deadline=None, max_examples=40)
@given(st.lists(st.permutations(range(6)), min_size=1, max_size=4), st.sets(st.integers(0, 5), min_size=1))
def test_the_best_rank_of_a_needed_passage_is_the_counted_one(
    orders: list[Sequence[int]], needed: set[int]
) -> None:
    db = Database(memory=True)
    import_module("kard.store.migrations").migrations.apply(db)
    db.executescript(files("kard.store").joinpath("views.sql").read_text(encoding="utf-8"))
    for key in range(6):
        passage(db, f"p{key}", "text", document=f"d{key}")
    db.execute("insert into indexes values ('i', 'kb', 6, 'a', '')")
    db.execute("insert into rerankers (id, task, base, base_sha256, index_id, settings, data_sha256, questions,"
               " metrics, path, sha256, milliseconds, created)"
               " values ('r', 'tiny', '', '', 'i', '', '', 1, '', '', '', 1, '')")  # fmt: skip
    expected: set[tuple[int, str, int | None]] = set()
    for key, order in enumerate(orders, 1):
        question(db, key, "test", f"q {key}")
        db.execute(
            "insert into retrievals values (?, 'i', ?, null, 'question', 4, 1.0, '', 'question', 'rationale', 1)",
            [key, key],
        )
        db.conn.executemany("insert into evidence values (?, ?)", [(key, f"d{n}") for n in needed])
        listed, reranked = order[:4], order[3::-1]
        for table, values in (("hits", listed), ("rerank_scores", reranked)):
            for rank, n in enumerate(values, 1):
                row = (key, rank, f"p{n}", 1.0, None) if table == "hits" else ("r", key, rank, f"p{n}", 1.0)
                db.execute(f"insert into {table} values (?, ?, ?, ?, ?)", row)
        for retriever, values in (("bm25", listed), ("r", reranked)):
            ranks = [rank for rank, n in enumerate(values, 1) if n in needed]
            expected.add((key, retriever, min(ranks, default=None)))
    first_hits = db.execute("select question_id, retriever, rank from first_hits").fetchall()
    assert set(first_hits) == expected
    assert len(first_hits) == len(expected)
    db.close()


def search(db: Database, table: str, text: str) -> list[str]:
    """Return the keys of the rows that a search finds."""
    return [r.get("key") or r["id"] for r in run_query(db, f"search_{table}", text=text)]


def test_search_follows_rows_that_are_written_changed_and_removed(small: Database) -> None:
    assert search(small, "questions", "RUST") == ["q1", "q2"] or search(small, "questions", "RUST") == ["q2", "q1"]
    assert search(small, "questions", "rusting iron") == ["q2"]  # every word, by its stem
    assert search(small, "rationales", "iron answer") == ["q2"]
    assert search(small, "passages", "heavy") == ["p3"]
    assert search(small, "passages", "On p3") == ["p3"]  # titles too
    passage(small, "p4", "Mercury is heavy.")
    assert set(search(small, "passages", "heavy")) == {"p3", "p4"}
    small.execute("update passages set text = 'Mercury is fluid.' where id = 'p4'")
    assert (search(small, "passages", "heavy"), search(small, "passages", "fluid")) == (["p3"], ["p4"])
    small.execute("delete from questions where id = 2")  # its rationale goes with it, and their words
    assert search(small, "questions", "iron") == search(small, "rationales", "iron") == []
    for table in ("questions", "rationales", "passages"):
        small.execute(f"insert into {table}_fts ({table}_fts, rank) values ('integrity-check', 1)")


def test_a_search_index_survives_vacuum_after_rows_were_deleted(small: Database) -> None:
    for n in range(40):
        passage(small, f"x{n}", f"number n{n}")
    small.execute("delete from passages where id glob 'x*' and rowid % 3 = 0")
    small.conn.commit()
    small.execute("vacuum")
    small.execute("insert into passages_fts (passages_fts, rank) values ('integrity-check', 1)")
    left = [key for (key,) in small.execute("select id from passages where id glob 'x*'")]
    assert left
    for key in left:
        assert search(small, "passages", f"n{key[1:]}") == [key]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    db = open_store(tmp_path_factory.mktemp("search") / "kard.db")
    yield db
    db.close()


@settings(deadline=None)
@example("\0", "questions")
@example("iron \0", "rationales")
@example("\0 iron", "passages")
@given(st.text(max_size=30), st.sampled_from(["questions", "rationales", "passages"]))
def test_no_text_is_read_as_syntax_of_the_search(searched: Database, text: str, table: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # half a character cannot be a value of SQLite
    assert run_query(searched, f"search_{table}", text=text) == []


@settings(deadline=None)
@given(st.lists(st.sampled_from(["iron", "AND", "NOT", 'say "no"', "3:1", "C++", "it's", "near("]), min_size=1))
def test_a_text_is_found_by_its_own_words(searched: Database, parts: list[str]) -> None:
    with searched.atomic():
        searched.execute("delete from passages")
        passage(searched, "p", " ".join(parts))
    assert search(searched, "passages", "  ".join(reversed(parts))) == ["p"]
    searched.execute("delete from passages")


def test_a_store_of_another_version_is_refused_with_the_way_to_take_its_rationales_along(tmp_path: Path) -> None:
    path = tmp_path / "kard.db"
    old = Migrations("kard")

    @old()
    def tables(db: Database) -> None: ...  # pyright: ignore[reportUnusedFunction]

    old.apply(Database(path))
    before = path.read_bytes()
    message = r"^\S+kard\.db was made by another version of kard; .*: kard export TASK FILE; .*$"
    with pytest.raises(NoStore, match=message):
        open_store(path)
    assert path.read_bytes() == before


def test_sqlite_utils_makes_the_same_tables_from_the_folder_alone(store: Database, tmp_path: Path) -> None:
    from sqlite_utils.cli import cli

    path = tmp_path / "alone.db"
    done = CliRunner().invoke(cli, ["migrate", str(path), str(Path(__file__).parents[1] / "store")])
    assert done.exit_code == 0, done.output
    query = "select type, name, sql from sqlite_master where type <> 'view' order by rowid"
    assert Database(path).execute(query).fetchall() == store.execute(query).fetchall()


def test_a_store_whose_judgements_outlived_their_text_gets_the_triggers_that_drop_them(small: Database) -> None:
    path = Path(small.execute("pragma database_list").fetchone()[2])
    triggers = "select name, sql from sqlite_master where type = 'trigger' order by name"
    current = small.execute(triggers).fetchall()
    for name, statement in current:
        if name in ("questions_changed", "rationales_changed"):
            small.execute(f"drop trigger {name}")
            small.execute(re.sub("delete from judgements .*;", "", statement))
    small.execute("delete from _sqlite_migrations where name <> 'initial_tables'")
    small.conn.commit()
    assert small.execute(triggers).fetchall() != current
    assert open_store(path).execute(triggers).fetchall() == current
    assert small.table("judgements").count == 2


def test_inserted_rows_are_counted_without_those_of_the_search_index(store: Database) -> None:
    records = [{"id": f"p{n}", "document": "d", "part": n, "title": "t", "text": "w " * n} for n in range(5)]
    assert insert_ignoring(store, "passages", records[:3]) == 3
    assert insert_ignoring(store, "passages", records) == 2
    assert insert_ignoring(store, "passages", records) == 0


def test_other_tools_read_the_same_file_and_the_same_queries(small: Database, tmp_path: Path) -> None:
    small.conn.commit()
    path = tmp_path / "kard.db"
    other = Database(path)
    assert other.table("passages").detect_fts() == "passages_fts"
    assert [row["id"] for row in other.table("passages").search("rust")] == ["p1"]
    other.close()
    from sqlite_utils.cli import cli

    done = CliRunner().invoke(
        cli, ["query", str(path), "-p", "task", "", "-p", "split", "test", "--", sql("accuracy")]
    )
    assert done.exit_code == 0, done.output
    assert [row["evaluation_id"] for row in json.loads(done.output)] == [1, 2]
    program = shutil.which("sqlite3")
    if program is None:
        pytest.skip("no sqlite3 program here: the check with it was left out")
    for name, lines in (("accuracy", 3), ("pairs", 1), ("rationales", 1)):
        shown = subprocess.run([program, path], input=sql(name), capture_output=True, text=True, check=True)
        assert (shown.stderr, len(shown.stdout.splitlines())) == ("", lines)


# Overlaps.

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"


def overlaps_by_comparing(questions: dict[int, str], text: str) -> list[Overlap]:
    """Return what `QuestionFinder.find` returns, by comparing every n-gram with every position."""
    inside, overlaps = normalized_words(text), list[Overlap]()
    for key, question in sorted(questions.items()):
        question_words = normalized_words(question)
        if len(question_words) < MIN_WORDS:
            if inside and question_words == inside:
                overlaps.append(Overlap(key, 1.0))
            continue
        parts = word_ngrams(question_words)
        shared = {g for g in parts if any(inside[i : i + len(g)] == g for i in range(len(inside)))}
        if shared:
            overlaps.append(Overlap(key, len(shared) / len(parts)))
    return overlaps


few_words = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=20).map(" ".join)


@settings(deadline=None)
@given(st.dictionaries(st.integers(1, 5), few_words, max_size=4), few_words, few_words, st.data())
def test_overlaps_are_those_that_comparing_everything_finds(
    questions: dict[int, str], before: str, after: str, data: st.DataObject
) -> None:
    middle = data.draw(st.sampled_from([*questions.values(), ""]))
    for text in (f"{before} {middle} {after}", middle):
        assert QuestionFinder(questions).find(text) == overlaps_by_comparing(questions, text)


def test_a_question_is_found_whole_in_part_or_not_at_all() -> None:
    finder = QuestionFinder({1: LONG, 2: "Does iron ever rust here?", 3: "Why not?"})
    assert finder.find(f"He said: {LONG.upper()}!") == [Overlap(1, 1.0)]
    (part,) = finder.find(LONG.removesuffix(" fifteen"))
    assert (part.question, part.kind, round(part.share, 4)) == (1, "ngrams", round(2 / 3, 4))
    assert finder.find(" ".join(LONG.split()[: NGRAM_WORDS - 1])) == []  # twelve words in a row are no overlap
    assert [o.question for o in finder.find("does IRON ever\nrust, here: yes")] == [2]
    assert finder.find("does iron ever rust") == []
    assert [o.question for o in finder.find("why not")] == [3]
    assert finder.find("and why not ask") == []


@pytest.fixture
def make_run(store: Database, tiny_task: Task, tmp_path: Path) -> Callable[..., Run]:
    def make(**chosen: Any) -> Run:
        folder = tmp_path / "none"
        choices = RunOptions(settings=TaskSettings(), sizes=("135m",), methods=("ft",), **chosen)
        return Run(store, tiny_task, choices, tmp_path / "kard.db", folder, folder)

    return make


def test_overlaps_are_searched_once_and_again_when_there_are_more_texts(
    store: Database, make_run: Callable[..., Run]
) -> None:
    question(store, 1, "train", f"First, {LONG}?")
    question(store, 2, "test", LONG)
    question(store, 3, "test", "Does iron ever rust in here?")
    first = make_run()
    assert steps.run_step(first, SCREEN) == 2
    assert "1 test questions stand in training questions or passages" in first.notes[0]
    assert [(r["key"], r["inside"], r["other"], r["kind"]) for r in run_query(store, "contamination")] == [
        ("q2", "training question", "q1", "text")
    ]
    second = make_run()
    assert (steps.run_step(second, SCREEN), second.notes) == (0, [])
    assert (SCREEN.state(second).missing, SCREEN.state(second).note) == (0, "1 overlap")

    passage(store, "p", f"An aside. Does iron ever rust in here? {LONG}")
    assert SCREEN.state(make_run()).missing == 2
    assert steps.run_step(make_run(), SCREEN) == 2
    inside = [(r["key"], r["inside"]) for r in run_query(store, "contamination")]
    assert sorted(inside) == [("q2", "passage"), ("q2", "training question"), ("q3", "passage")]
    store.execute("delete from passages")
    assert [r["key"] for r in run_query(store, "contamination")] == ["q2"]
    assert steps.run_step(make_run(), SCREEN) == 2

    assert steps.rebuild(make_run(), "screen") == ["screen"]
    (left,) = run_query(store, "contamination")
    assert (left["kind"], left["text"][:11]) == ("not looked for", "2 questions")
    assert store.table("overlap_checks").count == 0


def test_only_the_evaluated_questions_of_a_run_are_checked(store: Database, make_run: Callable[..., Run]) -> None:
    question(store, 1, "train", LONG)
    for key in (2, 3):
        question(store, key, "dev", LONG)
    assert steps.run_step(make_run(split="dev", limit=1), SCREEN) == 1
    assert steps.run_step(make_run(split="dev"), SCREEN) == 1
    assert steps.run_step(make_run(split="train"), SCREEN) == 0


def test_status_shows_the_check_while_it_is_incomplete(store: Database, make_run: Callable[..., Run]) -> None:
    question(store, 1, "test", LONG)

    def shown() -> list[str]:
        return [step.name for step, _, _ in steps.states(make_run())]

    assert "screen" in shown()
    steps.run_step(make_run(), SCREEN)
    assert "screen" not in shown()


def test_accuracy_is_given_with_and_without_overlapping_questions(small: Database) -> None:
    small.execute(
        "insert into overlaps (question_id, passage_id, kind, share, created) values (2, 'p1', 'ngrams', 0.4, '')"
    )
    (one,) = [r for r in run_query(small, "accuracy_uncontaminated", split="test") if r["size"] == "one"]
    assert (one["accuracy"], one["clean"], one["clean_accuracy"], one["overlapping_accuracy"]) == (
        0.3333,
        2,
        0.0,
        1.0,
    )
    (strict,) = [
        r for r in run_query(small, "accuracy_uncontaminated", split="test", share=0.5) if r["size"] == "one"
    ]
    assert (strict["clean"], strict["overlapping_accuracy"]) == (3, None)


def test_a_second_command_that_writes_waits_for_the_first(tmp_path: Path) -> None:
    first, second = (open_store(tmp_path / "kard.db") for _ in range(2))
    step = {"task": "t", "step": "s", "started": "x", "milliseconds": 1.0, "added": 1}

    def write() -> None:
        with writing(second):
            second.table("steps_log").insert(step)

    other = threading.Thread(target=write)
    with writing(first):
        assert first.execute("select count(*) from steps_log").fetchone() == (0,)
        other.start()
        other.join(0.2)
        assert other.is_alive()
        with writing(first):
            first.table("steps_log").insert(step)
    other.join(10)
    assert first.execute("select count(*) from steps_log").fetchone() == (2,)


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    db = open_store(tmp_path / "kard.db")
    step = {"task": "t", "step": "s", "started": "x", "milliseconds": 1.0, "added": 1}
    with pytest.raises(sqlite3.OperationalError), writing(db):  # noqa: PT012  # the first statement is to be undone
        db.table("steps_log").insert(step)
        insert_ignoring(db, "no_such_table", [step])
    assert db.execute("select count(*) from steps_log").fetchone() == (0,)


def test_the_benchmark_of_the_store_runs_every_query_view_and_command_on_a_store_that_it_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    store: Any = import_module("store")
    monkeypatch.setattr(store, "SPLITS", {"train": 40, "dev": 10, "test": 20})
    monkeypatch.setattr(store, "PASSAGES", 4000)
    monkeypatch.setattr(store, "RUNS", 1)
    monkeypatch.setattr(store, "VALUES", {**store.VALUES, "question": 51})
    monkeypatch.setattr(store, "LIMIT", float("inf"))
    assert store.run(tmp_path) == 0
