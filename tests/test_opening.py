"""Stores of newer versions, on media that cannot be written, on full disks: one line, and nothing lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kard import db as opening
from kard.cli import main
from kard.db import open_store, read_store
from kard.errors import NoStore


@pytest.fixture
def path(case: Any, tmp_path: Path) -> Path:
    """Return a store with a question, in a form in which it may be copied: without a WAL."""
    case.question("iron")
    case.db.conn.execute("pragma wal_checkpoint(truncate)")
    case.db.conn.close()
    return tmp_path / "kard.db"


def first_view(path: Path) -> str:
    with closing(sqlite3.connect(path)) as db:
        return str(db.execute("select name from sqlite_master where type = 'view'").fetchone()[0])


def change(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


@pytest.fixture
def newer(path: Path) -> Path:
    """Return a store that kard 9.1.2 wrote, with another view."""
    view = first_view(path)
    change(path, "pragma user_version = 9001002", f"drop view {view}", f"create view {view} as select 1 as new")
    return path


def test_a_store_of_a_newer_version_is_read_and_not_changed(newer: Path) -> None:
    before = newer.read_bytes()
    db = open_store(newer)
    assert db.execute("select key from questions").fetchall() == [("iron",)]
    for name in db.execute("select name from sqlite_master where type = 'view'").fetchall():
        db.execute(f"select * from {name[0]} limit 1")
    db.conn.close()
    assert CliRunner().invoke(main, ["query", "accuracy", "--store", str(newer)]).exit_code == 0
    with closing(read_store(newer)) as reader:
        assert reader.execute("select count(*) from questions").fetchone()[0] == 1
    assert newer.read_bytes() == before


@pytest.mark.parametrize("words", [("load", "choice", "{}/q.csv"), ("rebuild", "ground", "choice", "--yes")])
def test_whoever_writes_to_a_newer_store_is_told_both_versions(newer: Path, words: tuple[str, ...]) -> None:
    (newer.parent / "q.csv").write_text("question,A,B,answer\nIs it?,yes,no,A\n")
    before = newer.read_bytes()
    command = [word.format(newer.parent) for word in words]
    result = CliRunner().invoke(main, [*command, "--store", str(newer)])
    assert result.exit_code == 1
    assert result.output == (
        f"Error: {newer} was written by kard 9.1.2; this is kard {opening.VERSION}, which only reads it:"
        " update kard to write\n"
    )
    assert newer.read_bytes() == before


def test_a_store_keeps_the_version_that_wrote_it(path: Path) -> None:
    version = sqlite3.connect(path).execute("pragma user_version").fetchone()[0]
    assert version == opening._number(opening.VERSION) > 0  # pyright: ignore[reportPrivateUsage]
    assert [opening._number(v) for v in ("0.1.0", "1.2.3", "2.0")] == [1000, 1002003, 2000000]  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("renamed", [False, True])
def test_a_store_that_cannot_be_written_is_read(path: Path, monkeypatch: pytest.MonkeyPatch, renamed: bool) -> None:
    if renamed:  # a view of another version cannot be renewed in the file
        view = first_view(path)
        change(path, f"drop view {view}", f"create view {view} as select 1 as old")
    for leftover in path.parent.glob("kard.db-*"):
        leftover.unlink()
    files = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    monkeypatch.setattr(os, "access", lambda *_: False)  # pyright: ignore[reportUnknownLambdaType]
    db = open_store(path)
    assert db.execute("select key from questions").fetchall() == [("iron",)]
    for (name,) in db.execute("select name from sqlite_master where type = 'view'").fetchall():
        assert [c[0] for c in db.execute(f"select * from {name}").description] not in (["old"], ["new"])
    with pytest.raises(
        NoStore, match=r"kard\.db or its folder cannot be written; copy the store to a folder of your own"
    ):
        db.execute("delete from questions")
    with pytest.raises(NoStore, match="cannot be written"):
        opening.insert_ignoring(db, "evidence", [{"question_id": 1, "document": "d"}])
    db.conn.close()
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == files


def test_a_store_on_a_read_only_file_system_is_read(path: Path) -> None:
    for leftover in path.parent.glob("kard.db-*"):
        leftover.unlink()
    words = ["query", "select key from questions", "--store", str(path)]
    code = f"from kard.cli import main; main({words!r})"
    bind = f"mount --bind {path.parent} {path.parent} && mount -o remount,ro,bind {path.parent} && "
    command = ["unshare", "-rm", "sh", "-c", f'{bind}exec "$0" -c "$1"', sys.executable, code]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in run.stderr or "mount" in run.stderr:
        pytest.skip("no name space of mounts here")
    assert (run.returncode, run.stderr) == (0, "")
    assert "iron" in run.stdout


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "x.db"), "Error: x.db: no space left on device; what was done"),
        (PermissionError(13, "Permission denied", "x"), "Error: x: permission denied; what was done"),
        (
            sqlite3.OperationalError("database or disk is full"),
            "Error: the store: database or disk is full; make room",
        ),
        (sqlite3.OperationalError("database is locked"), "Error: the store: database is locked; another command"),
        (
            sqlite3.DatabaseError("database disk image is malformed"),
            "Error: the store: database disk image is malform",
        ),
    ],
)
def test_what_the_system_refuses_is_said_in_one_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr("kard.cli.query._fetch", refuse)
    result = CliRunner().invoke(main, ["query", "select 1", "--store", str(path)])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert result.output.startswith(line)


def test_a_full_disk_leaves_what_was_there(path: Path) -> None:
    rows = "question,A,B,answer\n" + "".join(f"Is {i} {'x' * 200}?,yes,no,A\n" for i in range(5000))
    (path.parent / "q.csv").write_text(rows)
    command = [sys.executable, "-m", "kard", "load", "choice", str(path.parent / "q.csv"), "--store", str(path)]
    limited = ["sh", "-c", 'ulimit -f 600; trap "" XFSZ; exec "$0" "$@"', *command]
    run = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert run.stderr.startswith("Error: ")
    assert run.stderr.count("\n") == 1
    db = sqlite3.connect(path)
    assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    assert db.execute("select count(*) from questions").fetchone() == (1,)


def test_the_file_alone_has_all_that_a_command_stored(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("question,A,B,answer\nIs iron a metal?,yes,no,A\n")
    store = tmp_path / "kard.db"
    load = [sys.executable, "-m", "kard", "load", "choice", str(tmp_path / "q.csv"), "--store", str(store)]
    subprocess.run(load, capture_output=True, check=True)
    (tmp_path / "copies").mkdir()
    copy = shutil.copy(store, tmp_path / "copies")
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("select text from questions").fetchall() == [("Is iron a metal?",)]


def test_a_thread_that_writes_at_the_end_does_no_harm(tmp_path: Path) -> None:
    store = tmp_path / "kard.db"
    program = """
import sys, threading, time
from pathlib import Path
from kard.db import open_store
db = open_store(Path(sys.argv[1]))
db.execute("create table ticks (n)")
def write():
    while True:
        db.conn.execute("insert into ticks values (1)")
        db.conn.commit()
threading.Thread(target=write, daemon=True).start()
time.sleep(0.2)
"""
    run = subprocess.run([sys.executable, "-c", program, str(store)], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    with closing(sqlite3.connect(store)) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        assert db.execute("select count(*) from ticks").fetchone()[0] > 0


def test_a_file_that_is_no_database_is_told_in_one_line_by_every_command(tmp_path: Path) -> None:
    (tmp_path / "kard.db").write_text("not a database, but long enough to look at\n" * 30)
    for words in (["query", "accuracy"], ["models"], ["status", "choice"]):
        result = CliRunner().invoke(main, [*words, "--store", str(tmp_path / "kard.db")])
        assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
        assert "cannot open" in result.output


def test_a_file_that_is_not_there_makes_no_store(tmp_path: Path) -> None:
    store = tmp_path / "kard.db"
    for words in (["missing.csv"], ["--rationales", "missing.jsonl"]):
        result = CliRunner().invoke(main, ["load", "choice", *words, "--store", str(store)])
        assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
        assert not store.exists()
