"""What the shell says: the next command with its store, the words that matched, signs of life, who can be asked."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sqlite_utils import Database

from kard.cli import main, show
from kard.config import Decoding, TaskSettings
from kard.db import open_store
from kard.errors import Missing
from kard.evaluation.condition import Condition, passages_read
from kard.knowledge.indexing import index_documents
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.pipeline.options import RunOptions
from kard.pipeline.run import Run
from kard.pipeline.steps import needed
from kard.records import Document
from kard.tasks import Task


def kard(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


# Errors


def test_an_error_names_the_next_command_with_the_store_and_the_knowledge_base_that_were_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, folder = tmp_path / "my own.db", tmp_path / "kb"
    open_store(store).close()
    refused = kard("search", "x", "--store", store, "--knowledge", folder)
    assert refused.exit_code == 1
    assert f"build one with: kard index SOURCE --knowledge {folder} --store '{store}'\n" in refused.output
    refused = kard("query", "nosuch", "--store", store)
    assert f"list them with: kard query --store '{store}' (SQL is one quoted argument)" in refused.output
    monkeypatch.setenv("KARD_STORE", str(store))
    assert "list them with: kard query (SQL" in kard("query", "nosuch").output


def test_every_command_of_an_error_gets_the_store_if_it_has_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    group: Any = main
    context = click.Context(group)
    context.meta["kard.typed.store"], context.meta["kard.typed.knowledge"] = Path("my.db"), Path("kb")
    message = (
        "none; see them with: kard models, or train one with: kard train reranker tiny; or fetch it with: kard "
        "models fetch X (see: kard tasks), another `kard index` writes, or run: kard ask Q --store other.db"
    )
    assert group.with_places(context, message) == (
        "none; see them with: kard models --store my.db, or train one with: kard train reranker tiny --store my.db "
        "--knowledge kb; or fetch it with: kard models fetch X (see: kard tasks), another `kard index` writes, or "
        "run: kard ask Q --store other.db --knowledge kb"
    )


def test_failures_understand_which_knowledge_base_was_read(
    case: Any, store: Database, folder: Path, tiny_file: Path, tmp_path: Path
) -> None:
    for retriever in ("bm25", "none"):
        case.answered(case.question(retriever), retriever, *(["d1-0"] if retriever == "bm25" else []))
    place = ("failures", tiny_file, "--store", tmp_path / "kard.db", "--json")

    def retrievers(*words: object) -> list[str]:
        return sorted(row["retriever"] for row in json.loads(kard(*place, *words).stdout))

    assert retrievers() == ["bm25", "none"]
    assert retrievers("--knowledge", folder) == ["none"]  # bm25 read another one
    store.execute("pragma foreign_keys = off")
    store.execute("update evaluations set index_id = ? where retriever = 'bm25'", [KnowledgeBase.open(folder).id])
    store.conn.commit()
    assert retrievers("--knowledge", folder) == ["bm25", "none"]


# Search


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    texts = {"a": "Corks float on water.", "b": "Iron sinks in water, and rusts.", "c": "Smoke rises."}
    documents = [Document(key, key.upper(), text) for key, text in texts.items()]
    index_documents(documents, tmp_path / "kb", source="s")
    return tmp_path / "kb"


def test_a_search_shows_the_words_that_matched(folder: Path) -> None:
    found = json.loads(kard("search", "Does floating Iron rust in WATER?", "--knowledge", folder, "--json").output)
    assert {hit["document"]: hit["words"] for hit in found} == {"b": "Iron rust in WATER", "a": "floating WATER"}
    table = kard("search", "rusting", "--knowledge", folder).output
    assert table.split("\n")[1].split() == ["rank", "bm25", "words", "title", "document", "passage"]
    assert "rusting" in table


def test_words_that_are_dropped_as_common_are_not_shown(tmp_path: Path) -> None:
    documents = [Document(str(i), "", f"The world of n{i}x") for i in range(30)]
    index_documents(documents, tmp_path / "kb", source="s")
    place = ("--knowledge", tmp_path / "kb", "--json")
    (hit,) = json.loads(kard("search", "world n7x", "--max-df", "0.05", *place).output)
    assert hit["words"] == "n7x"
    assert json.loads(kard("search", "world n7x", "--exact", "-n", "1", *place).output)[0]["words"] == "world n7x"


def test_a_search_is_printed_as_csv_and_as_a_json_object_a_line(folder: Path) -> None:
    printed = kard("search", "water", "--knowledge", folder, "--csv").output
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert [row["text"] for row in rows] == ["Corks float on water.", "Iron sinks in water, and rusts."]
    assert [row["words"] for row in rows] == ["water", "water"]
    lines = kard("search", "water", "--knowledge", folder, "--nl").output.splitlines()
    assert [json.loads(line)["rank"] for line in lines] == [1, 2]
    assert kard("search", "zebra", "--knowledge", folder, "--csv").output == ""


# Whom to ask


def test_a_store_without_students_says_at_once_whom_to_ask(
    tmp_path: Path, case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def heavy(*_: object, **__: object) -> Any:
        raise AssertionError("a task or a model was loaded")

    monkeypatch.setattr("kard.tasks.load", heavy)
    store = tmp_path / "kard.db"
    case.question("q1")
    case.write("delete from students")
    for words in ((), ("--task", "tiny")):
        refused = kard("ask", "Which?", "--store", store, *words)
        assert refused.exit_code == 1
        assert refused.output == (
            f"Error: no student of tiny is trained in {store}; ask its base as it is with: kard ask QUESTION "
            f"--task tiny --student zero-shot --store {store}, or train one with: kard run tiny --store {store}\n"
        )


# Signs of life without a terminal


def test_a_log_gets_a_line_from_time_to_time_even_if_nothing_moves(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show.Lines, "EVERY", 0.02)

    def until(line: str) -> str:
        """Return what is printed up to a line like this one."""
        told, end = "", time.monotonic() + 60
        while not re.search(f"^{line}$", told, re.M):
            assert time.monotonic() < end, told
            time.sleep(0.02)
            told += capsys.readouterr().err
        return told

    lines = show.Lines()
    with lines.step("train", "train a thing") as report:
        until(r"train: train a thing, \d+ s so far")
        with lines.bar("epochs", 7) as advance:
            advance(2)
            assert "train: train a thing\nepochs: 7 to do\n" in until(
                r"epochs: 2 of 7, [\d.,]+/s after \d+ s, ends about \d\d:\d\d"
            )
        report(7)
    assert re.search(r"^train: 7 added in \d+ s$", capsys.readouterr().err, re.M)
    time.sleep(0.2)
    capsys.readouterr()  # the last line, which may have come late
    time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_the_end_is_told_from_the_share_where_nobody_knows_how_much_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(show, "monotonic", lambda: now[0])
    monkeypatch.setattr(show, "time", lambda: 1000.0)
    paces = [show.Pace(None, lambda: 0.25), show.Pace(8, None), show.Pace(None, None)]
    assert [pace.end() for pace in paces[1:]] == ["", ""]  # nothing is done yet
    now[0] = 110.0
    for pace, done in zip(paces, (5_000, 2, 2), strict=True):
        pace.done = done
    assert [pace.units() for pace in paces] == ["5,000 (25%), 500/s", "2 of 8, 0.2/s", "2, 0.2/s"]
    end = time.strftime("%H:%M", time.localtime(1030.0))
    assert [pace.end() for pace in paces] == [f", ends about {end}"] * 2 + [""]


def test_a_step_without_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    lines = show.Lines()
    with lines.step("find", "find passages") as report:
        with lines.bar("search", 0):
            pass
        report(0)
    assert capsys.readouterr().err == ""


# The control


def options_of(*retrievers: str) -> RunOptions:
    return RunOptions(settings=TaskSettings(), sizes=("9m",), methods=("kard",), retrievers=retrievers)


def condition(**more: Any) -> Condition:
    return Condition("test", "s", "kard", "shuffled", 1, Decoding(), "i" * 16, max_df=1.0, **more)


def test_the_control_of_bm25_reads_bm25s_passages_of_another_question(case: Any, store: Database) -> None:
    for key in ("q1", "q2"):
        question = case.question(key)
        case.hits(question, f"{key}-0", f"{key}-1")
        case.ranked(question, f"{key}-1", f"{key}-0")
    store.execute("update retrievals set form = 'question', max_df = 1.0")
    store.conn.commit()
    ids = {row["key"]: row["id"] for row in store.query("select id, key from questions")}

    def read(**more: Any) -> dict[str, list[str]]:
        passages = passages_read(store, "tiny", condition(**more))
        return {key: [passage.id for passage in passages[ids[key]]] for key in ids}

    assert read() == {"q1": ["q2-0"], "q2": ["q1-0"]}
    assert read(reranker_id=case.RERANKER, kappa=9) == {"q1": ["q2-1"], "q2": ["q1-1"]}


def test_the_control_trains_no_reranker_unless_it_stands_beside_one(tmp_path: Path, tiny_task: Task) -> None:
    def steps(*retrievers: str) -> set[str]:
        db = open_store(tmp_path / "kard.db")
        run = Run(
            db, tiny_task, options_of(*retrievers), tmp_path / "kard.db", tmp_path / "kb", tmp_path / "adapters"
        )
        return {step.name for step in needed(run)}

    assert not {"reranker", "rerank"} & steps("bm25", "shuffled")
    assert {"reranker", "rerank"} <= steps("reranker", "shuffled")
    assert {"reranker", "rerank"} <= steps("fused", "shuffled")


def test_the_two_controls_are_two_conditions() -> None:
    rows = [condition().row("t"), condition(reranker_id="r", kappa=9).row("t")]
    assert rows[0]["hash"] != rows[1]["hash"]
    assert (rows[0]["kappa"], rows[0]["reranker_id"]) == (None, None)
    assert (rows[1]["kappa"], rows[1]["reranker_id"]) == (9, "r")
    with pytest.raises(Exception, match="kappa must be"):
        condition(reranker_id="r")
    with pytest.raises(Missing, match="needs a knowledge base"):
        passages_read(None, "t", Condition("test", "s", "kard", "shuffled", 1, Decoding()))  # pyright: ignore[reportArgumentType]


def test_who_interrupts_work_hears_that_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kard.db.open_store", interrupted)
    monkeypatch.setattr("kard.cli.choose.open_store", interrupted)
    told = CliRunner().invoke(main, ["status", "choice", "--store", str(tmp_path / "kard.db")])
    assert told.stderr.split("\n")[1] == "what was done is kept; the same command goes on"
    told = CliRunner().invoke(main, ["ask", "Which?", "--store", str(tmp_path / "kard.db")])
    assert "is kept" not in told.stderr  # nothing was to be kept


@pytest.mark.parametrize("command", ["serve", "ui"])
def test_a_store_that_is_not_there_is_told_before_an_extra(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("kard.serve.app", "kard.ui.server"):
        monkeypatch.setitem(sys.modules, module, None)  # as without the extra
    refused = CliRunner().invoke(main, [command, "--store", str(tmp_path / "none.db")])
    assert refused.output.startswith("Error: no store at "), refused.output


# Tables


def drawn(header: Sequence[str], rows: Sequence[Sequence[object]], width: int) -> list[str]:
    """Return the lines of a table on a console of that width."""
    stream = io.StringIO()
    Console(file=stream, width=width).print(show.laid_out("", header, rows, width))
    return stream.getvalue().splitlines()


@given(
    st.lists(
        st.lists(st.integers(0, 10**20).map(str), min_size=1, max_size=4).map(" ".join), min_size=1, max_size=8
    ),
    st.integers(40, 160),
)
def test_a_table_breaks_no_number_at_any_width(cells: list[str], width: int) -> None:
    header = [f"column{i}" for i in range(len(cells))]
    lines = drawn(header, [list(cells)], width)
    assert all(len(line) <= width for line in lines)
    words = " ".join(lines).split()
    assert not {*header, *" ".join(cells).split()} - {*words}


def test_columns_come_closer_before_rows_become_lists() -> None:
    header, rows = ["size", "method", "accuracy"], [["135m", "kard", 0.65], ["135m", "rd", None]]
    assert drawn(header, rows, 30)[1] == " size   method   accuracy "
    assert drawn(header, rows, 24)[1] == " size  method  accuracy "
    assert [line.rstrip() for line in drawn(header, rows, 20)] == [
        "size      135m",
        "method    kard",
        "accuracy  0.65",
        "",
        "size      135m",
        "method    rd",
        "",
    ]
