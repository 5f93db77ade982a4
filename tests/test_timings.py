"""`kard --timings FILE`: where a command's time goes, as a table and as a trace, and nothing when nobody asks."""

from __future__ import annotations

import ast
import io
import json
import threading
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tiny_students import add_student, make_base

from kard import progress as timings
from kard.cli import main
from kard.files import write_lines

ROOT = Path(__file__).parents[1]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a clock to set: it stands still otherwise."""
    now = [0.0]
    monkeypatch.setattr(timings, "perf_counter", lambda: now[0])
    return now


def trace_of(measured: timings.Timings) -> list[dict[str, Any]]:
    file = io.StringIO()
    measured.write(file)
    return json.loads(file.getvalue())["traceEvents"]


def test_a_piece_of_work_does_not_count_the_seconds_of_those_within_it(clock: list[float]) -> None:
    @timings.timed("inner")
    def inner() -> str:
        clock[0] += 2
        return "done"

    with timings.measuring() as measured:
        with timings.span("outer", "of two"):
            clock[0] += 1
            assert [inner(), inner()] == ["done", "done"]
        clock[0] += 5
        table = measured.table()
    assert table == [
        ("inner", 2, 4, "40%"),
        ("outer", 1, 1, "10%"),
        (timings.REST, None, 5, "50%"),
        ("all", None, 10, "100%"),
    ]
    assert [(e["name"], e["ts"], e["dur"]) for e in trace_of(measured) if e["ph"] == "X"] == [
        ("inner", 1e6, 2e6),
        ("inner", 3e6, 2e6),
        ("outer of two", 0, 5e6),
    ]


def test_a_piece_of_work_that_fails_is_measured_and_raises(clock: list[float]) -> None:
    @timings.timed("fails")
    def fails() -> None:
        clock[0] += 3
        raise ValueError("as it was")

    with timings.measuring() as measured:
        with pytest.raises(ValueError, match="as it was"):
            fails()
        assert measured.table()[0] == ("fails", 1, 3, "100%")


def test_threads_stand_apart_and_do_not_shorten_each_others_work(clock: list[float]) -> None:
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        with timings.span("theirs"):
            begun.set()
            ended.wait(10)

    with timings.measuring() as measured:
        thread = threading.Thread(target=work, name="worker")
        with timings.span("own"):
            thread.start()
            begun.wait(10)
            clock[0] += 4
            ended.set()
            thread.join()
        assert {name: seconds for name, _, seconds, _ in measured.table()} == {
            "theirs": 4, "own": 4, timings.REST: 0, "all": 4,
        }  # fmt: skip
    events = trace_of(measured)
    names = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    assert {names[e["tid"]]: e["name"] for e in events if e["ph"] == "X"} == {
        "worker": "theirs",
        "MainThread": "own",
    }


def test_a_trace_has_an_end_and_sums_have_none(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timings, "MOST_EVENTS", 2)
    with timings.measuring() as measured:
        for _ in range(5):
            with timings.span("work"):
                clock[0] += 1
        assert measured.table()[0] == ("work", 5, 5, "100%")
    assert len([e for e in trace_of(measured) if e["ph"] == "X"]) == 2


def test_imports_are_measured_by_package_and_only_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outer_package").mkdir()
    (tmp_path / "outer_package/__init__.py").write_text("import outer_package.part\n", "utf-8")
    (tmp_path / "outer_package/part.py").write_text("import inner_module\n", "utf-8")
    (tmp_path / "inner_module.py").write_text("", "utf-8")
    (tmp_path / "later_module.py").write_text("", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    untouched = SourceFileLoader.exec_module
    with timings.measuring() as measured:
        __import__("outer_package")
    __import__("later_module")
    assert [e["name"] for e in trace_of(measured) if e["ph"] == "X"] == [
        "import inner_module",
        "import outer_package",
    ]
    assert SourceFileLoader.exec_module is untouched


def test_a_function_that_yields_is_not_measured_by_its_call() -> None:
    """Its call returns at once, and the work is done later."""
    for file in sorted((ROOT / "kard").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and any("timed(" in ast.unparse(d) for d in node.decorator_list):
                yields = [n for n in ast.walk(node) if isinstance(n, ast.Yield | ast.YieldFrom)]
                assert not yields, f"{file}: {node.name}"


@pytest.fixture
def place(tmp_path: Path) -> list[str]:
    """Return the options that name a store with a tiny student, and its knowledge base."""
    place = ["--store", str(tmp_path / "kard.db")]
    write_lines(tmp_path / "docs.jsonl", [{"id": "a", "title": "Brack", "text": "The gate of Brack is blue."}])
    done = CliRunner().invoke(main, ["index", str(tmp_path / "docs.jsonl"), *place, "--quiet"])
    assert done.exit_code == 0, done.output
    add_student(tmp_path / "kard.db", make_base(tmp_path / "base"), seed=1)
    return place


def test_an_answer_is_told_apart_into_its_work(place: list[str], tmp_path: Path) -> None:
    ask = ["ask", "What colour is the gate of Brack?", "--option", "blue", "--option", "red", *place, "--json"]
    plain = CliRunner().invoke(main, ask)
    timed = CliRunner().invoke(main, ["--timings", str(tmp_path / "trace.json"), *ask])
    assert (plain.exit_code, timed.exit_code) == (0, 0), timed.output
    replies = [{**json.loads(done.stdout), "milliseconds": 0, "samples": 0} for done in (plain, timed)]
    assert replies[0] == replies[1]
    assert "seconds" not in plain.stderr
    events = json.loads((tmp_path / "trace.json").read_text("utf-8"))["traceEvents"]
    names = {e["name"] for e in events if e["ph"] == "X"}
    for work in (
        *("search postings", "read passages", "hash weights", "merge an adapter"),
        *("tokenize", "read prompts", "write texts", "score options"),
    ):
        assert work in names
        assert f" {work} " in timed.stderr
    assert timed.stderr.splitlines()[-2].split()[0] == "all"


def test_steps_are_measured_by_name(load_choice: Callable[..., Path], tmp_path: Path) -> None:
    load_choice({"a": "The gate is blue."}, [("q", "test", "Which gate?", ["blue", "red"], "A", "It is blue.")])
    place = ["--store", str(tmp_path / "kard.db")]
    trace = tmp_path / "trace.json"
    done = CliRunner().invoke(
        main,
        ["--timings", str(trace), "evaluate", "choice", "--rank-only", "--retriever", "bm25", *place, "--quiet"],
    )
    assert done.exit_code == 0, done.output
    assert "step retrieve" in {e["name"] for e in json.loads(trace.read_text("utf-8"))["traceEvents"]}


def test_a_command_that_fails_is_measured_to_its_error(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    done = CliRunner().invoke(
        main, ["--timings", str(trace), "status", "choice", "--store", str(tmp_path / "no.db")]
    )
    assert done.exit_code == 1
    assert "no store at" in done.stderr
    assert "seconds" in done.stderr
    assert "traceEvents" in json.loads(trace.read_text("utf-8"))


def test_a_trace_that_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--timings", str(tmp_path / "no" / "trace.json"), "tasks"])
    assert done.exit_code == 2
    assert "No such file or directory" in done.stderr
