"""What is wrong in a task's file, in settings or in a store's row is said in one line."""

from __future__ import annotations

import datetime
import importlib
import random
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from kard.cli import main
from kard.cli.overrides import overridden
from kard.config import TaskSettings
from kard.errors import BadConfig, BadInput, NoTask
from kard.knowledge.sources import documents
from kard.recipes import stored_settings
from kard.student.records import parse_prompted, parse_settings
from kard.tasks import load

TASK_FILES = {
    "x = 1\nTASK = x.missing\n": (2, "AttributeError: 'int' object has no attribute 'missing'"),
    "def f():\n    return 1 / 0\n\n\nTASK = f()\n": (2, "ZeroDivisionError: division by zero"),
    "import json\njson.loads('{')\n": (2, "JSONDecodeError"),
    "import not_there_at_all\n": (1, "ModuleNotFoundError: No module named 'not_there_at_all'"),
    "x = 1\ny = (\n": (2, "SyntaxError"),
    "x = 1\n  y = 2\n": (2, "IndentationError"),
    "raise SystemExit('three\\nlines\\nlong')\n": (1, "SystemExit: three lines long"),
    "raise KeyError\n": (1, "KeyError"),
    "from kard.config import Retrieval\n\nRetrieval(kappa=0)\n": (3, "kappa must be at least 1, not 0"),
    "def f():\n    f()\nf()\n": (2, "RecursionError"),
    "x = '\x00'\n": (1, "SyntaxError" if sys.version_info >= (3, 11, 4) else "ValueError"),
}  # fmt: skip


@pytest.mark.parametrize("source", TASK_FILES)
def test_an_error_in_a_task_s_file_is_one_line_that_names_file_and_line(tmp_path: Path, source: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source, encoding="utf-8")
    line, says = TASK_FILES[source]
    with pytest.raises(NoTask) as raised:
        load(str(path))
    message = str(raised.value)
    assert message.startswith(f"{path}:{line}: {says}"), message
    assert "\n" not in message
    result = CliRunner().invoke(main, ["run", str(path), "--store", str(tmp_path / "kard.db")])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1), result.output


def test_a_task_s_file_that_is_no_utf8_or_no_file_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin.py").write_bytes(b"x = '\xe9'\n")
    (tmp_path / "folder.py").mkdir()
    for name in ("latin.py", "folder.py"):
        with pytest.raises(NoTask, match=rf"{name}:1: ") as raised:
            load(str(tmp_path / name))
        assert "\n" not in str(raised.value)


def names(settings: object, before: str = "") -> Iterator[str]:
    for field in fields(settings):  # type: ignore[arg-type]  # every one of them is a dataclass
        value = getattr(settings, field.name)
        yield before + field.name
        if is_dataclass(value):
            yield from names(value, f"{before}{field.name}.")


NAMES = list(names(TaskSettings()))
VALUES = ["", "0", "-1", "1e400", "nan", "inf", "-inf", "9" * 30, "9" * 5000, "true", "x", "\x00", "²", "1_000"]
MIDDLES = ["=", "", ".x=", ".=", "=="]
assignments = st.tuples(st.sampled_from(NAMES), st.sampled_from(MIDDLES), st.sampled_from(VALUES))
BROKEN = ["", "{", "[]", "null", "3", '{"lora": 3}', '{"unknown": 1}', '{"shots": 1}', '{"lora": {}}{']


@settings(deadline=None)
@given(st.lists(assignments.map("".join), min_size=1, max_size=6))
def test_any_number_of_broken_settings_gives_one_short_line_or_settings_that_a_store_can_hold(
    texts: list[str],
) -> None:
    changed, message = TaskSettings(), ""
    try:
        changed = overridden(changed, texts)
    except BadConfig as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 900
    for group in fields(changed):
        for value in getattr(changed, group.name).values().values():
            assert not isinstance(value, int) or abs(value) < 2**63
            assert not isinstance(value, float) or abs(value) < 1e308


@pytest.mark.parametrize("name", ["student.seed", "reranker.seed", "prompting.seed"])
def test_a_seed_that_numpy_refuses_is_refused_before_anything_runs(name: str) -> None:
    with pytest.raises(BadConfig, match="seed must not be negative, not -1"):
        overridden(TaskSettings(), [f"{name}=-1"])


@pytest.mark.parametrize("text", BROKEN)
def test_settings_that_somebody_broke_in_a_row_of_the_store_are_one_line(text: str) -> None:
    def prompted(broken: str) -> object:
        return parse_prompted({"id": "s1", "settings": broken, "recipe": "{}"})

    says = r"settings of .*student.* in the store cannot be read.*kard rebuild"
    for read in (parse_settings, prompted):
        with pytest.raises(BadInput, match=says) as raised:
            read(text)
        assert "\n" not in str(raised.value)


def test_a_mistake_of_the_program_is_not_taken_for_broken_settings() -> None:
    with pytest.raises(AssertionError), stored_settings("a student"):
        raise AssertionError


def parquet(path: Path, columns: dict[str, Any]) -> None:
    pa: Any = importlib.import_module("pyarrow")
    importlib.import_module("pyarrow.parquet").write_table(pa.table(columns), path)


def test_dates_in_parquet_end_in_one_line(tmp_path: Path) -> None:
    pa: Any = importlib.import_module("pyarrow")
    columns = {
        "date": pa.array([datetime.date(2024, 1, 1)]),
        "far date": pa.array([2**30], pa.int32()).cast(pa.date32()),
        "far time": pa.array([2**45], pa.timestamp("s")),
        "nanoseconds": pa.array([1], pa.timestamp("ns")),
        "zone": pa.array([1], pa.timestamp("s", "Mars/Olympus")),
        "far duration": pa.array([2**53], pa.duration("s")),
    }
    for kind, array in columns.items():
        for column in ("id", "title", "text"):
            path = tmp_path / f"{kind}-{column}.parquet"
            parquet(path, {"id": ["a"], "title": ["b"], "text": ["c"], column: array})
            with pytest.raises(BadInput) as raised:
                list(documents(path))
            assert str(raised.value).startswith(f"{path}:1: "), kind
            assert "\n" not in str(raised.value)


def test_random_bytes_in_place_of_a_parquet_s_end_in_one_line(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", {"id": ["a", "b"], "title": ["T", "U"], "text": ["x" * 50, "y"]})
    content, draw = (tmp_path / "a.parquet").read_bytes(), random.Random(0)
    for _ in range(60):
        mutated = bytearray(content)
        for _ in range(draw.randrange(1, 8)):
            mutated[draw.randrange(len(mutated))] = draw.randrange(256)
        (tmp_path / "b.parquet").write_bytes(mutated)
        with suppress(BadInput):
            list(documents(tmp_path / "b.parquet"))
