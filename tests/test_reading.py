"""Statements that people write can only read, and cannot take the machine's memory or time."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kard.cli import main
from kard.db import read_store

WRITES = (
    "vacuum into '{0}/copy.db'",
    "attach '{0}/other.db' as other",
    "attach ':memory:' as other",
    "create temp table t (a)",
    "create table t (a)",
    "delete from questions",
    "insert into questions (task) values ('x')",
    "update questions set text = ''",
    "pragma user_version = 7",
    "pragma journal_mode = delete",
    "pragma wal_checkpoint(truncate)",
    "pragma temp_store_directory = '{0}'",
    "pragma writable_schema = 1",
    "begin immediate",
    "drop table questions",
    "reindex questions",
    "analyze questions",
    "select load_extension('{0}/x.so')",
    "with x as (select 1) insert into questions (task) select * from x",
)
READS = (
    "select count(*) from questions",
    "select * from pragma_table_info('questions')",
    "pragma table_info(questions)",
    "pragma user_version",
    "explain query plan select * from questions",
    "select * from questions_fts where questions_fts match 'iron'",
    "with recursive n (i) as (select 1 union all select i + 1 from n where i < 9) select max(i) from n",
    "select value from json_each('[1, 2]')",
    "values (1), (2)",
)
N = "with recursive n (i) as (select 1 union all select i + 1 from n where i < 100000)"
LARGE = (
    "select hex(zeroblob(499999999))",
    "select replace(printf('%900000s', ''), ' ', 'aaaaaaaaaaaaaaaaaaaa')",
    f"{N} select group_concat(hex(zeroblob(400000))) from n",
    f"{N} select zeroblob(900000) from n",
    f"{N} select printf('%900000s', i) from n",
)


@pytest.fixture
def path(case: Any, tmp_path: Path) -> Path:
    case.question("iron")
    return tmp_path / "kard.db"


@pytest.mark.parametrize("statement", WRITES)
def test_no_statement_writes_anything_anywhere(path: Path, tmp_path: Path, statement: str) -> None:
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if not file.name.endswith("-shm")}
    result = CliRunner().invoke(main, ["query", statement.format(tmp_path), "--store", str(path)])
    assert result.exit_code == 1, result.output
    assert result.output.startswith("Error: SQL: ")
    assert result.output.count("\n") == 1
    assert "--store" not in result.output  # that is for commands that a message names
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir() if not f.name.endswith("-shm")} == before


@pytest.mark.parametrize("statement", READS)
def test_statements_that_read_are_answered(path: Path, statement: str) -> None:
    result = CliRunner().invoke(main, ["query", statement, "--store", str(path)])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("statement", LARGE)
def test_large_values_and_results_end_in_one_line_within_a_limit_of_memory(path: Path, statement: str) -> None:
    code = "import sys; from kard.cli import main; from kard.reading import Reader\n"
    code += "Reader.result = 50_000_000; main(sys.argv[1:])"
    begin = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", code, "query", statement, "--store", str(path), "--csv"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert (run.returncode, run.stdout) == (1, ""), run.stderr
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("Error: SQL: ")
    assert time.monotonic() - begin < 30


def test_an_operation_that_heeds_no_clock_ends_with_the_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleeping(*_: Any, **__: Any) -> sqlite3.Connection:
        connection = read_store(path, threads=True)
        connection.create_function("sleep", 1, time.sleep)
        return connection

    monkeypatch.setattr("kard.cli.query.read_store", sleeping)
    begin = time.monotonic()
    result = CliRunner().invoke(main, ["query", "select sleep(5)", "--timeout", "0.1", "--store", str(path)])
    assert result.output == "Error: the query took more than 0.1 s; give it longer with --timeout\n"
    assert time.monotonic() - begin < 3


@pytest.mark.parametrize(
    ("value", "printed"),
    [("007", "007,text"), ("7", "7,integer"), ("-0.5", "-0.5,real"), ("1e30", "1e30,text"),
     ("9" * 30, f"{'9' * 30},text"),
     ("nan", "nan,text"), ("\u0667", "\u0667,text"), ("", ",text")],
)  # fmt: skip
def test_a_parameter_is_a_number_only_if_it_is_written_as_one(path: Path, value: str, printed: str) -> None:
    words = ["query", "select :x, typeof(:x)", "-p", "x", value, "--csv", "--store", str(path)]
    assert CliRunner().invoke(main, words).output.splitlines()[1] == printed


@pytest.mark.parametrize("form", ["--nl", "--json", "--csv", "--table"])
def test_a_blob_is_printed_in_every_form(path: Path, form: str) -> None:
    result = CliRunner().invoke(main, ["query", "select x'00ff1b'", form, "--store", str(path)])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "words", [("query", "select :x", "-p", "x", "a\udcff"), ("query", "select '\udcff'"), ("explain", "\udcff")]
)
def test_an_argument_that_is_no_utf8_is_said_in_one_line(path: Path, words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*words, "--store", str(path)])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1


def test_a_name_of_three_hundred_characters_is_said_in_one_line(path: Path) -> None:
    for words in (["load", "choice", "x" * 300 + ".csv"], ["query", "select 1", "--store", "y" * 300]):
        result = CliRunner().invoke(main, [*words, *([] if "--store" in words else ["--store", str(path)])])
        assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
