"""Text that others wrote cannot drive a terminal, and no key leaves the program."""

from __future__ import annotations

import ast
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from kard.cli import main, show
from kard.errors import BadInput
from kard.outgoing import Door, clean, inert, without_keys

ESCAPES = (
    "\x1b]8;;http://evil.example\x07click\x1b]8;;\x07 [link=http://evil.example]x[/link] [/] \u202eolleh \x9b2J \r!"
)
ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]")
Kard = Callable[..., Result]


@pytest.fixture
def kard(case: Any, tmp_path: Path, tiny_file: Path) -> Kard:
    """Return what runs a command on a store whose every text is hostile."""
    question = case.question(f"key {ESCAPES}", "d1", split="test")
    # Before what is made of it: a changed question drops that.
    case.write("update questions set text = ?, options = ?", ESCAPES, json.dumps([ESCAPES, "no"]))
    case.hits(question, "d1-0", "d2-0")
    case.rationale(question, "d1-0")
    case.answered(question, "bm25", "d1-0")
    case.write("update passages set title = ?, text = ?", ESCAPES, ESCAPES)
    case.write("update rationales set text = ?", ESCAPES)
    case.write("update teachers set name = ?, model = ?", ESCAPES, ESCAPES)
    case.write("update rerankers set base = ?", ESCAPES)

    def run(*words: str) -> Result:
        words = tuple(str(tiny_file) if word == "TASK" else word for word in words)
        return CliRunner().invoke(main, [*words, "--store", str(tmp_path / "kard.db")])

    return run


TABLES = (
    ("hits", "TASK"),
    ("hits", "TASK", "--markdown"),
    ("explain", "id:1"),
    ("rationales", "TASK"),
    ("models",),
    ("query", "select * from questions, passages, teachers"),
    ("failures", "TASK"),
    ("load", "TASK", f"missing {ESCAPES}.csv"),
    ("load", f"{ESCAPES}.py", "x.csv"),
    ("hits", "TASK", "--split", ESCAPES),
    ("query", f"select 1 from [{ESCAPES}]"),
    ("explain", ESCAPES),
    ("hits", "TASK", f"--{ESCAPES}"),
    ("judge", "--list"),
)


@pytest.mark.parametrize("words", TABLES, ids=lambda words: " ".join(words[:2])[:20])
def test_no_command_lets_a_text_act_on_the_terminal(kard: Kard, words: tuple[str, ...]) -> None:
    result = kard(*words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.output
    assert ACTS.findall(result.output) == []


def test_markup_in_the_title_of_a_table_is_printed_as_it_was_written(kard: Kard) -> None:
    result = kard("hits", "TASK")
    assert result.exit_code == 0, result.output
    assert "[link=http://evil.example]x[/link] [/]" in " ".join(result.output.split())


@pytest.mark.parametrize("form", ["--json", "--nl"])
def test_json_is_printable_and_gives_back_the_bytes(kard: Kard, form: str) -> None:
    output = kard("query", "select text from questions", form).output
    assert ACTS.findall(output) == []
    rows = json.loads(output)
    assert (rows if isinstance(rows, dict) else rows[0])["text"] == ESCAPES


def in_a_terminal(code: str) -> str:
    """Return what a terminal receives from a program."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm"}
    )
    os.close(slave)
    received = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # the program has ended
            break
        received += part
        if not part:
            break
    process.wait()
    os.close(master)
    return received.decode()


def test_csv_is_exact_in_a_pipe_and_clean_on_a_terminal(kard: Kard, tmp_path: Path) -> None:
    words = ["query", "select text from questions", "--csv", "--store", str(tmp_path / "kard.db")]
    code = f"from kard.cli import main; main({words!r})"
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.decode()
    assert ESCAPES in piped
    shown = in_a_terminal(code).replace("\r\n", "\n")
    assert "evil.example" in shown
    assert ACTS.findall(shown) == []


def test_a_bar_shows_its_label_and_what_is_printed_meanwhile_clean() -> None:
    code = (
        "from kard.cli import show; from kard.outgoing import guard_streams; import sys; guard_streams()\n"
        f"text = {ESCAPES!r}\n"
        "with show.Bars().bar(text, 2) as advance:\n"
        "    advance(1); print(text, file=sys.stderr); advance(1)\n"
    )
    shown = in_a_terminal(code)
    assert "[link=http://evil.example]" in shown
    assert "\x1b]8" not in shown
    assert "\u202e" not in shown
    assert "\x07" not in shown


def test_an_error_is_one_line_whatever_it_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise BadInput("a\nError: b", at="c\rd")

    def get_command(*_: object) -> click.Command:
        return broken

    monkeypatch.setattr(type(main), "get_command", get_command)
    result = CliRunner().invoke(main, ["broken"])
    assert result.output == "Error: c d: a Error: b\n"


def test_a_traceback_and_a_log_leave_by_the_same_door(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import logging, os; from kard.outgoing import guard_streams; guard_streams()\n"
        f"os.environ['OPENAI_API_KEY'] = 'sk-secret-42'; text = {ESCAPES!r} + 'sk-secret-42'\n"
        "logging.warning(text); raise ValueError(text)\n"
    )
    errors = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).stderr.decode()
    assert errors.count("evil.example") >= 2
    assert ACTS.findall(errors) == []
    assert "sk-secret-42" not in errors
    assert errors.count("[OPENAI_API_KEY]") == 2


@given(st.text())
def test_clean_text_passes_the_door_unchanged(text: str) -> None:
    stream = io.StringIO()
    Door(stream).write(text)
    assert stream.getvalue() == clean(text) == clean(clean(text))
    assert ACTS.findall(stream.getvalue()) == []
    stream.getvalue().encode()


def test_letters_of_every_script_stay_as_they_are() -> None:
    text = "שלום \u200fעולם\u200e, مرحبا, नमस्\u200dते, 日本語\u3000,\u00a0naïve, 👩\u200d🔬"  # noqa: RUF001
    assert inert(text) == text


def test_rich_is_given_a_stream_in_one_place_alone() -> None:
    """Whatever rich writes goes around the door."""
    users = {
        str(file)
        for file in Path(show.__file__).parents[1].rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Console"
    }
    assert users == {show.__file__}


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "my_password"])
@pytest.mark.parametrize("form", ["{}", "Bearer {}", "<{}>", "a={}&b"])
def test_the_value_of_a_variable_that_holds_a_key_is_replaced_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, form: str
) -> None:
    monkeypatch.setenv(name, 's/e"cret-42')
    for written in ('s/e"cret-42', 's/e\\"cret-42', "s%2Fe%22cret-42"):
        assert without_keys(form.format(written)) == form.format(f"[{name}]")


def test_a_short_or_ordinary_value_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("KARD_STORE", "long-name.db")
    assert without_keys("none of long-name.db") == "none of long-name.db"
