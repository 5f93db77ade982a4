"""The store in a browser: every page, nothing that can be changed there, and no text that can act."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from datasette.app import Datasette
from hypothesis import given, settings
from hypothesis import strategies as st

from kard.cli import main
from kard.db import now, open_store, read_store
from kard.errors import NoStore
from kard.outgoing import inert
from kard.schema import COLUMNS, queries, relations
from kard.ui.database import Store, parse_parameters, parse_value
from kard.ui.server import application

HURT = (
    "<script>window.hurt=1</script><img src=x onerror=window.hurt=1>\"'><svg onload=window.hurt=1> "
    "\x1b]0;title\x07\x1b[31mred\x9b2J\x00 \u202egnp.exe\u2066 {{ 7*'7' }} javascript:window.hurt=1"
)
RAW = (
    "<script>window.hurt",
    "<img src=x",
    "<svg onload",
    "\x1b",
    "\x9b",
    "\x07",
    "\x00",
    "\u202e",
    "\u2066",
    "7777777",
)


def evil(word: str) -> str:
    """Return a text that begins with a word to look for and goes on with everything that must not act."""
    return f"{word} {HURT}"


def fill(path: Path) -> None:
    """Make a store with a question of each split and everything that can belong to one, all of it hostile."""
    db = open_store(path)
    created = now()
    for number, split in ((1, "train"), (2, "test")):
        db.table("questions").insert(
            {
                "id": number, "task": "metals", "key": f"q{number}", "split": split,
                "text": evil(f"Rusting{number}"),
                "options": json.dumps([evil("yes"), evil("no")]), "answer": "A", "kind": evil("kind"),
                "facts": json.dumps([evil("fact")]), "hash": str(number), "created": created,
            }
        )  # fmt: skip
    db.table("passages").insert_all(
        {"id": f"p{i}", "document": f"d{i}", "part": 0, "title": evil(f"Title{i}"), "text": evil(f"Passage{i}")}
        for i in range(14)
    )
    db.table("evidence").insert({"question_id": 2, "document": "d3"})
    index = {"id": "index", "path": "x", "passages": 14, "analyser": "{}", "created": created}
    db.table("indexes").insert(index)
    teacher = {"id": "t", "name": "oracle", "model": evil("model"), "instructions": "", "sampling": "{}"}
    db.table("teachers").insert({**teacher, "created": created})
    for number in (1, 2):
        db.table("rationales").insert(
            {"id": number, "question_id": number, "teacher_id": "t", "sample": 0, "text": evil(f"Because{number}"),
             "conclusion": "A", "accepted": 1, "created": created}
        )  # fmt: skip
    for number, query, rationale in ((1, "question", None), (2, "rationale", 2)):
        db.table("retrievals").insert(
            {"id": number, "index_id": "index", "question_id": 2, "rationale_id": rationale, "query": query,
             "depth": 14, "milliseconds": 1.5, "created": created}
        )  # fmt: skip
        order = range(14) if query == "question" else reversed(range(14))
        db.table("hits").insert_all(
            {
                "retrieval_id": number,
                "rank": rank,
                "passage_id": f"p{i}",
                "bm25": 20.25 - rank,
                "question_rank": i + 1,
            }
            for rank, i in enumerate(order, start=1)
        )
    made_of = {"base": "b", "base_sha256": "", "settings": "{}", "data_sha256": "", "path": "", "sha256": ""}
    trained = {**made_of, "task": "metals", "milliseconds": 2000, "created": created}
    db.table("rerankers").insert({**trained, "id": "rr", "index_id": "index", "questions": 1, "metrics": "{}"})
    db.table("rerank_scores").insert_all(
        {"reranker_id": "rr", "retrieval_id": 1, "rank": rank, "passage_id": f"p{i}", "score": 1 / rank}
        for rank, i in enumerate((5, 3, 1), start=1)
    )
    student = {**trained, "id": "s", "method": "kard", "size": "tiny", "seed": 0, "examples": 1, "tokens": 9}
    db.table("students").insert({**student, "loss": 0.5})
    for number, retriever in ((1, "bm25"), (2, "reranker")):
        db.table("evaluations").insert(
            {"id": number, "task": "metals", "split": "test", "student_id": "s", "retriever": retriever, "k": 2,
             "index_id": "index", "reranker_id": "rr" if number == 2 else None, "decoding": "{}",
             "hash": str(number), "created": created}
        )  # fmt: skip
        read = ["p0", "p1"] if number == 1 else ["p5", "p3"]
        db.table("predictions").insert(
            {"id": number, "evaluation_id": number, "question_id": 2, "answer": "BA"[number - 1],
             "correct": number - 1, "votes": 1, "passages": json.dumps(read), "milliseconds": 3, "flops": 1e9,
             "created": created}
        )  # fmt: skip
        db.table("samples").insert(
            {"prediction_id": number, "sample": 0, "text": evil(f"Wrote{number}"), "answer": "BA"[number - 1],
             "forced": None, "prompt_tokens": 5, "completion_tokens": 6}
        )  # fmt: skip
    db.table("judgements").insert(
        {"question_id": 2, "passage_id": "p3", "verdict": "good", "note": evil("Noted"), "author": evil("me"),
         "created": created}
    )  # fmt: skip
    db.table("steps_log").insert(
        {"task": "metals", "step": "teach", "started": created, "milliseconds": 1, "added": 2, "note": evil("note")}
    )
    db.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ui") / "metals.db"
    fill(path)
    return path


@pytest.fixture(scope="module")
def ui(path: Path) -> Datasette:
    return application(path)


def get(ui: Datasette, address: str, **settings: Any) -> Any:
    """Return the whole application's response to one request, redirects followed."""
    return asyncio.run(ui.client.get(address, follow_redirects=True, **settings))


def addresses(path: Path) -> list[str]:
    """Return the address of every kind of page: tables, views, rows, canned queries, the finder, traces."""
    db = read_store(path)
    names = [r.name for r in relations(db)]
    db.close()
    keys = {"hits": "1,1", "rerank_scores": "rr,1,1", "evidence": "2,d3", "samples": "1,0", "passages": "p3"}
    tables = ("questions", "rationales", "predictions", "teachers")
    rows = {**dict.fromkeys(tables, "1"), "teachers": "t", **keys}
    return [
        "/",
        "/metals",
        *(f"/metals/{name}" for name in names),
        *(f"/metals/{table}/{key}" for table, key in rows.items()),
        *(f"/metals/{query.name}" for query in queries()),
        "/metals/questions?_facet=text&_facet=kind&_sort_desc=text",
        "/metals/passages?_search=Passage3",
        "/metals?sql=select+*+from+samples",
        "/-/kard",
        "/-/kard?text=Rusting2&task=metals&split=test&wrong_in=1",
        "/-/kard/question/1",
        "/-/kard/question/2",
    ]


def test_every_page_and_every_canned_query_is_there_and_no_text_on_it_can_act(ui: Datasette, path: Path) -> None:
    seen = ""
    for address in addresses(path):
        page = get(ui, address)
        assert page.status_code == 200, (address, page.text[-600:])
        assert page.headers["content-type"].startswith("text/html"), address
        assert [raw for raw in RAW if raw in page.text] == [], address
        assert not re.search(r"(?:href|src|action)=[\"']?\s*javascript:", page.text, re.I), address
        seen += page.text
    for word in ("Rusting2", "Title3", "Passage3", "Because2", "Wrote1", "Noted"):
        assert f"{word} &lt;script&gt;" in seen, word


def headings(page: str) -> list[str]:
    return re.findall(r"<h[12][^>]*>(.*?)</h[12]>", page)


def test_the_first_page_opens_on_the_report_then_wrong_questions_then_tables_and_queries(ui: Datasette) -> None:
    page = get(ui, "/").text
    assert headings(page) == [
        "metals, test", "Accuracy", "Why answers were wrong", "Questions that went wrong", "Tables", "Queries",
    ]  # fmt: skip
    parts = re.split(r"<h[12][^>]*>", page)
    assert "<svg" in parts[2]
    assert re.search(r"tiny kard, reranker</th><td class=\"value\">100.0%", parts[2])
    assert "<svg" in parts[3]
    assert re.search(r"tiny kard, bm25</th><td class=\"value\">1</td><td class=\"value\">1</td>", parts[3])
    assert "retriever failure" in parts[3]
    assert re.findall(r"/-/kard/question/(\d+)", parts[4]) == ["2"]
    assert "wrong in 1 of 2 answers · retriever failure" in parts[4]
    assert "/metals/predictions" in parts[5]
    assert re.findall(r"<a href=\"/metals/(\w+)\">", parts[6]) == [q.name for q in queries()]


def test_the_first_page_of_a_store_without_answers_says_what_it_holds_and_what_comes_next(tmp_path: Path) -> None:
    path = tmp_path / "a store.db"
    open_store(path).close()
    empty = get(application(path), "/").text
    assert headings(empty) == ["a store: no answers yet", "Tables", "Queries"]
    assert f"<code>kard load TASK FILE --store &#39;{path}&#39;</code>" in empty
    fill(path)
    with sqlite3.connect(path) as connection:
        connection.execute("delete from samples")
        connection.execute("delete from predictions")
    page = get(application(path), "/").text
    assert "metals, train: 1 question, 1 rationale (1 of the questions have an accepted one)" in page
    assert f"<code>kard run metals --store &#39;{path}&#39;</code>" in page
    assert "<svg role" not in page


def test_the_first_page_shows_the_newest_split_and_any_other_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "metals.db"
    fill(path)
    ui = application(path)
    assert "Other answers" not in get(ui, "/").text
    with sqlite3.connect(path) as connection:  # a step that runs meanwhile: the page is made again
        connection.execute(
            "insert into evaluations (id, task, split, student_id, retriever, k, decoding, hash, created)"
            " values (3, 'metals', 'train', 's', 'none', 0, '{}', '3', '')"
        )
        connection.execute(
            "insert into predictions (id, evaluation_id, question_id, answer, correct, votes, passages,"
            " milliseconds, flops, created) values (3, 3, 1, 'A', 1, 1, '[]', 1, 1, '')"
        )
    page = get(ui, "/").text
    assert headings(page)[0] == "metals, train"
    assert "No answer was wrong." in page
    (other,) = re.findall(r"<a href=\"(/\?task=[^\"]*)\">", page)
    assert headings(get(ui, other.replace("&amp;", "&")).text)[0] == "metals, test"
    assert headings(get(ui, "/?task=none&split=x").text)[0] == "metals, train"


def test_without_matplotlib_the_first_page_names_the_command_and_shows_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "metals.db")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    page = get(application(tmp_path / "metals.db"), "/").text
    assert "pip install &#39;kard[plots]&#39;" in page
    assert re.findall(r"/-/kard/question/(\d+)", page) == ["2"]
    assert headings(page)[-3:] == ["Questions that went wrong", "Tables", "Queries"]


def test_the_first_page_of_too_many_answers_says_so_and_shows_the_rest(
    ui: Datasette, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise sqlite3.OperationalError("interrupted")

    monkeypatch.setattr("kard.ui.pages.read_summary", interrupted)
    monkeypatch.setattr(next(s for s in ui.databases.values() if isinstance(s, Store)), "opening", None)
    page = get(ui, "/").text
    assert "too many answers to read them here" in page
    assert "kard report metals --split test --html report.html --store" in page
    assert headings(page) == ["metals, test", "Tables", "Queries"]


def test_queries_that_only_serve_commands_are_not_listed(ui: Datasette) -> None:
    assert get(ui, "/metals/stored_texts").status_code == 404
    assert "stored_texts" not in get(ui, "/metals").text


def test_the_trace_of_a_question_shows_all_that_led_to_each_answer(ui: Datasette) -> None:
    page = get(ui, "/-/kard/question/2").text
    parts = re.split(r"<h2 id=\"(\w+)\">", page)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert "Rusting2" in parts[0]
    assert re.search(r"<b>A</b> yes .*gold", parts[0])
    assert "1 gold fact" in parts[0]
    assert "What it needs: 1 gold document." in parts[0]
    answers = sections["answers"].split("<section")[1:]
    assert len(answers) == 2
    wrong, right = answers
    assert "tiny kard, bm25 k=2" in wrong
    assert ">wrong</strong>" in wrong
    assert "<b>retriever failure</b>" in wrong
    assert all(word in wrong for word in ("Wrote1", "Passage0", "Passage1"))
    assert "kard-mark" not in wrong
    assert "tiny kard, reranker k=2" in right
    assert ">right</strong>" in right
    assert re.search(r"Title3 .*?<strong class=\"kard-mark\">needed</strong>", right)
    assert "Because2" in sections["rationales"]
    assert "accepted" in sections["rationales"]
    lists = sections["passages"].split("<section")[1:]
    titles = [re.sub(r"<.*?>", "", part.split("<h3>")[1].split("</h3>")[0]) for part in lists]
    assert titles == [
        "BM25 by the question 14 passages",
        "Reranker rr 3 passages",
        "BM25 by rationale 2 14 passages",
    ]
    assert [re.search(r"needed at rank (\d+)", part)[1] for part in lists] == ["4", "2", "11"]  # type: ignore[index]
    assert [part.count(">needed</strong>") for part in lists] == [1, 1, 1]
    assert "4 more" in lists[0]
    assert "BM25 rank 6" in lists[1]
    assert "Noted" in sections["judgements"]


def test_a_missing_question_gives_404_in_one_sentence(ui: Datasette, capfd: Any) -> None:
    page = get(ui, "/-/kard/question/99")
    assert page.status_code == 404
    assert "no question" in page.text
    assert capfd.readouterr() == ("", "")


def test_questions_are_found_by_words_task_split_and_condition_that_got_them_wrong(ui: Datasette) -> None:
    def ids(query: str) -> list[str]:
        return re.findall(r"href=\"/-/kard/question/(\d+)\"", get(ui, f"/-/kard?{query}").text)

    assert ids("") == ["2", "1"]  # answered ones first
    assert ids("text=rusting1") == ["1"]
    assert ids("text=q2") == ["2"]
    assert ids("split=train") == ["1"]
    assert ids("task=none") == []
    assert ids("wrong_in=1") == ["2"]
    assert ids("wrong_in=2") == []
    assert ids("from=1") == ["1"]
    assert ids("text=%25") == []  # no wildcard
    assert "right in 1 of 2 conditions" in get(ui, "/-/kard").text


def test_a_canned_query_has_its_comment_and_a_field_for_each_parameter(ui: Datasette) -> None:
    for query in queries():
        page = get(ui, f"/metals/{query.name}").text
        assert query.meaning.split("`")[0].replace("'", "&#39;").strip() in page, query.name
        fields = re.findall(r"<input type=\"text\" id=\"qp\d+\" name=\"(\w+)\"", page)
        assert fields == list(query.parameters)


def test_a_canned_query_opens_with_examples_from_the_store(ui: Datasette) -> None:
    opened = asyncio.run(ui.client.get("/metals/answers"))
    address = "/metals/answers?split=test&task=metals&question="
    assert (opened.status_code, opened.headers["location"]) == (302, address)
    assert "0 results" in get(ui, "/metals/search_passages").text  # no example: a form that waits for a word
    assert asyncio.run(ui.client.get("/metals/conditions")).status_code == 200
    assert asyncio.run(ui.client.get("/metals/answers?task=x")).status_code == 200


def test_a_forms_fields_are_read_as_kard_query_reads_parameters(ui: Datasette) -> None:
    def rows(address: str) -> list[dict[str, Any]]:
        return get(ui, address).json()

    # nothing typed is null, which narrows nothing; as text, 2 would be above every number
    assert parse_parameters({"question": "", "k": "2", "text": "2 x"}, ("question", "k", "text", "task")) == {
        "question": None, "k": 2, "text": "2 x", "task": None,
    }  # fmt: skip
    answers = "/metals/answers.json?_shape=array&task=metals&split=test&question="
    assert len(rows(answers)) == len(rows(answers + "2")) == 2
    assert rows(answers + "1") == []


def test_tables_say_what_they_and_their_columns_mean_and_units_and_facets(ui: Datasette) -> None:
    page = get(ui, "/metals/retrievals").text
    assert "BM25 searches: with a question, or with a rationale of it." in page
    assert re.search(r"<dt>depth</dt>\s*<dd>passages that the query asked for</dd>", page)
    assert "1.5&nbsp;ms" in page
    assert "_facet=query" in page or 'data-column="query"' in page


def test_a_question_links_to_its_trace_wherever_it_is_named(ui: Datasette) -> None:
    for address in (
        "/metals/questions",
        "/metals/answers?task=metals&split=test",
        "/metals?sql=select+2+as+question_id",
    ):
        assert 'href="/-/kard/question/2"' in get(ui, address).text, address
    assert "/-/kard/question/x" not in get(ui, "/metals?sql=select+'x'+as+question_id").text


def test_nothing_can_be_written(ui: Datasette, path: Path) -> None:
    before = path.read_bytes()
    for statement in ("delete from questions", "insert into questions default values", "pragma user_version = 7"):
        assert get(ui, f"/metals?sql={quote(statement)}").status_code == 400, statement
    (store,) = (s for s in ui.databases.values() if isinstance(s, Store))
    for write in (False, True):
        connection = store.connect(write=write)
        with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
            connection.execute("delete from questions")
        connection.close()
    assert path.read_bytes() == before
    assert get(ui, "/metals.db").status_code == 403


def test_what_a_running_step_writes_is_seen_at_the_next_request(tmp_path: Path) -> None:
    fill(tmp_path / "metals.db")
    ui = application(tmp_path / "metals.db")
    count = "/metals.json?_shape=array&sql=select+count(*)+as+n+from+steps_log"
    assert get(ui, count).json() == [{"n": 1}]
    writer = open_store(tmp_path / "metals.db")
    with writer.atomic():
        row = {"task": "metals", "step": "x", "started": now(), "milliseconds": 1, "added": 2}
        writer.table("steps_log").insert(row)
        assert get(ui, count).json() == [{"n": 1}]  # and reading does not wait for the writer
    assert get(ui, count).json() == [{"n": 2}]
    writer.close()


def test_a_store_that_cannot_be_written_is_shown_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "metals.db")
    (tmp_path / "other.db").touch()

    def denied(path: Path, mode: int) -> bool:
        return False

    monkeypatch.setattr(os, "access", denied)
    ui = application(tmp_path / "metals.db")
    assert not ui.get_database("metals").is_mutable
    assert "Rusting2" in get(ui, "/-/kard/question/2").text
    with pytest.raises(NoStore, match="not a kard store"):
        application(tmp_path / "other.db")


def test_a_statement_that_takes_too_long_is_stopped_and_says_so(
    ui: Datasette, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ui, "sql_time_limit_ms", 50)
    endless = "with recursive n (i) as (select 1 union all select i + 1 from n) select max(i) from n"
    page = get(ui, f"/metals?sql={quote(endless)}")
    assert page.status_code == 400
    assert "It took more than 0.05 s and was stopped." in page.text


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "evil.example:8001", "", "[::2]",
             "0.0.0.0", "127.0.0.1:80:80", "localhost, evil.example"],
)  # fmt: skip
def test_a_host_that_is_not_loopback_is_refused_whatever_it_resolves_to(ui: Datasette, host: str) -> None:
    page = get(ui, "/metals/questions.json", headers={"host": host})
    assert page.status_code == 421
    assert "Rusting" not in page.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "NONSENSE"])
def test_a_request_that_is_no_reading_is_refused_in_one_line(ui: Datasette, method: str, capfd: Any) -> None:
    for address in ("/metals/questions", "/-/kard", "/-/kard/question/1", "/metals.json?sql=select+1"):
        page = asyncio.run(ui.client.request(method, address))
        assert (page.status_code, page.text) == (405, "kard ui is asked with GET or HEAD only\n")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("host", ["127.0.0.1:8001", "localhost", "LocalHost:1", "[::1]:8001"])
def test_loopback_by_any_of_its_names_is_answered(ui: Datasette, host: str) -> None:
    assert get(ui, "/", headers={"host": host}).status_code == 200


def test_a_page_may_load_from_here_only_and_kards_own_run_no_script(ui: Datasette) -> None:
    for address in ("/", "/-/kard", "/metals/questions.json", "/nowhere"):
        headers = get(ui, address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert ("script-src 'none'" in policy) == (address in ("/", "/-/kard"))
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
    assert "<script" not in get(ui, "/-/kard/question/2").text


@settings(deadline=None)
@given(st.text())
def test_inert_text_has_no_control_and_changes_nothing_else(text: str) -> None:
    clean = inert(text)
    assert inert(clean) == clean
    assert len(clean) == len(text)
    for before, after in zip(text, clean, strict=True):
        acts = unicodedata.category(before) == "Cc" and before not in "\n\r\t"
        acts = acts or unicodedata.bidirectional(before) in (
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
        )  # fmt: skip
        if acts:
            assert after == "\N{REPLACEMENT CHARACTER}"
        elif before.isprintable():
            assert after == before


@settings(deadline=None)
@given(st.integers(-(10**17), 10**17) | st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 3)))
def test_a_number_in_a_field_is_read_as_that_number(number: float) -> None:
    typed = f"{number:.3f}" if isinstance(number, float) else str(number)
    assert parse_value(typed) == number


@settings(deadline=None)
@given(st.text())
def test_sqlite_accepts_the_value_of_any_text_in_a_field(text: str) -> None:
    value = parse_value(text)
    assert value is None or str(value) == text or float(value) == float(text)
    connection = sqlite3.connect(":memory:")
    assert connection.execute("select ?", [value]).fetchone()[0] == value
    connection.close()


def test_a_taken_port_gives_one_line_that_names_the_option(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = CliRunner().invoke(main, ["ui", "--store", str(path), "--port", str(port), "--no-open"])
    assert refused.exit_code == 1
    command = f"kard ui --port {port + 1} --store {path}"
    assert refused.output == f"Error: port {port} is taken; name another with: {command}\n"


def test_a_missing_and_a_foreign_store_give_one_line(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("create table t (x)")
    connection.close()
    for name, problem in (("none.db", "no store at"), ("other.db", "not a kard store")):
        refused = CliRunner().invoke(main, ["ui", "--store", str(tmp_path / name), "--no-open"])
        assert (refused.exit_code, refused.output.count("\n")) == (1, 1)
        assert problem in refused.output


def test_without_the_extra_the_command_names_what_installs_it(path: Path) -> None:
    code = "import sys; sys.modules['datasette'] = None; from kard.cli import main; main(prog_name='kard')"
    done = subprocess.run(
        [sys.executable, "-c", code, "ui", "--store", str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: datasette is not installed; add it with: pip install 'kard[ui]'\n"


def test_no_option_lets_another_machine_in() -> None:
    refused = CliRunner().invoke(main, ["ui", "--host", "0.0.0.0"])
    assert refused.exit_code == 2


def test_every_table_column_and_canned_query_says_what_it_means(path: Path) -> None:
    db = read_store(path)
    tables = relations(db)
    db.close()
    silent = [r.name for r in tables if not r.meaning]
    silent += [f"{r.name}.{c.name}" for r in tables for c in r.columns if not c.meaning]
    silent += [q.name for q in queries() if not q.meaning]
    assert silent == [], "say it in a comment of store/, or in kard/schema.py"
    names = {c.name for r in tables for c in r.columns} | {f"{r.name}.{c.name}" for r in tables for c in r.columns}
    assert set(COLUMNS) - names == set()


# In a browser


@pytest.fixture(scope="module")
def address(path: Path) -> Iterator[str]:
    """Start `kard ui` in a process and yield the address that it prints."""
    command = [sys.executable, "-c", "from kard.cli import main; main(prog_name='kard')", "ui"]
    with subprocess.Popen(
        [*command, "--store", str(path), "--port", "0", "--no-open"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as server:
        assert server.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
        assert found is not None
        yield found[0]
        server.send_signal(2)  # as Ctrl-C does
        assert server.wait(20) == 0


def width(browser: Any, pixels: int) -> None:
    """Give the browser a screen of that width."""
    screen = {"width": pixels, "height": 844, "deviceScaleFactor": 1, "mobile": pixels < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def visit(browser: Any, address: str) -> None:
    """Open the page and wait for its heading: a busy machine can take longer than the browser says."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(address)
    shown = WebDriverWait(browser, 30).until
    shown(lambda driver: driver.find_elements("css selector", "section.content h1"), f"{address} has no heading")


@pytest.mark.parametrize("pixels", [1280, 390])
def test_pages_load_fit_the_screen_and_run_no_text(browser: Any, address: str, pixels: int) -> None:
    width(browser, pixels)
    pages = ("/", "/metals", "/metals/passages", "/metals/questions/2", "/metals/overfitting",
             "/-/kard", "/-/kard/question/2")  # fmt: skip
    browser.get_log("browser")
    for page in pages:
        visit(browser, address + page)
        for fold in browser.find_elements("css selector", "details:not(.nav-menu)"):
            browser.execute_script("arguments[0].open = true", fold)
        wide, screen = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide <= screen, (page, wide)
        assert browser.execute_script("return window.hurt === undefined && document.images.length === 0"), page
    assert [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def follow(browser: Any, element: Any) -> None:
    """Click and wait for the next page: a busy machine takes longer than the click."""
    from selenium.webdriver.support.ui import WebDriverWait

    old = browser.find_element("tag name", "html")
    element.click()

    def arrived(driver: Any) -> bool:
        new = driver.find_elements("tag name", "html")
        return bool(new) and new[0] != old and driver.execute_script("return document.readyState") == "complete"

    WebDriverWait(browser, 30).until(arrived)


def test_a_canned_query_runs_from_its_form(browser: Any, address: str) -> None:
    width(browser, 1280)
    visit(browser, address + "/metals/answers")
    assert browser.find_element("name", "split").get_attribute("value") == "test"
    assert len(browser.find_elements("css selector", "table.rows-and-columns tbody tr")) == 2
    field = browser.find_element("name", "question")
    field.clear()
    field.send_keys("1")
    follow(browser, browser.find_element("css selector", "input[type=submit]"))
    assert "question=1" in browser.current_url
    assert len(browser.find_elements("css selector", "table.rows-and-columns tbody tr")) == 0


def test_a_question_is_found_and_its_trace_unfolds_its_passages(browser: Any, address: str) -> None:
    width(browser, 390)
    browser.get(address)
    follow(browser, browser.find_element("link text", "Find a question"))
    browser.find_element("name", "text").send_keys("rusting2")
    follow(browser, browser.find_element("css selector", ".kard-filter input[type=submit]"))
    (found,) = browser.find_elements("css selector", ".kard-questions a")
    follow(browser, found)
    passage = browser.find_element("css selector", ".kard-list [data-passage=p3]")
    assert "needed" in passage.find_element("tag name", "summary").text
    text = passage.find_element("class name", "kard-text")
    assert not text.is_displayed()
    passage.find_element("tag name", "summary").click()
    assert text.is_displayed()
    assert text.text.startswith("Passage3 <script>window.hurt=1</script><img src=x onerror=window.hurt=1>")
    assert browser.execute_script("return window.hurt === undefined")
