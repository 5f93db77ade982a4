"""Rows come out of files as they went in, and errors name file and line."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kard.errors import BadInput
from kard.files import FilePosition, atomic, read_rows, read_text

# The examples of a test share tmp_path; each writes its file anew.
fresh = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=5
)
objects = st.dictionaries(st.text(), values, max_size=4)


@fresh
@given(rows=st.lists(objects, min_size=1, max_size=5), zipped=st.booleans(), blank=st.booleans())
def test_json_lines_come_back_with_their_line_numbers(
    tmp_path: Path, rows: list[dict[str, object]], zipped: bool, blank: bool
) -> None:
    path = tmp_path / ("rows.jsonl.gz" if zipped else "rows.jsonl")
    text = ("\n\n" if blank else "\n").join(json.dumps(row) for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    step = 2 if blank else 1
    assert list(read_rows(path)) == [(FilePosition(path, 1 + step * i), row) for i, row in enumerate(rows)]


@fresh
@given(rows=st.lists(objects, min_size=1, max_size=5), wrapped=st.booleans())
def test_a_json_list_comes_back_item_by_item(tmp_path: Path, rows: list[dict[str, object]], wrapped: bool) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"version": 1, "data": rows} if wrapped else rows), encoding="utf-8")
    assert list(read_rows(path)) == [(FilePosition(path, i), row) for i, row in enumerate(rows, 1)]


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), min_size=1).filter(str.strip)


@fresh
@given(table=st.lists(st.tuples(cells, cells), min_size=1, max_size=4), ending=st.sampled_from(["csv", "tsv"]))
def test_a_table_comes_back_cell_by_cell(tmp_path: Path, table: list[tuple[str, str]], ending: str) -> None:
    path = tmp_path / f"rows.{ending}"
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter="\t" if ending == "tsv" else ",").writerows([("id", "text"), *table])
    path.write_bytes(buffer.getvalue().encode())
    assert [dict(row) for _, row in read_rows(path)] == [{"id": a, "text": b} for a, b in table]


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a"}\n')
    assert [row for _, row in read_rows(path)] == [{"id": "a"}]


def test_json_lines_under_the_name_json_are_read_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"id": "a"}\n{"id": "b"}\n', encoding="utf-8")
    assert [(place.line, row["id"]) for place, row in read_rows(path)] == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    ("name", "content", "line", "problem"),
    [
        ("a.jsonl", b'{"id": 1}\n{"id": \n', 2, "not JSON"),
        ("a.jsonl", b'{"id": 1}\n[1, 2]\n', 2, "expected a JSON object, found list"),
        ("a.jsonl", b'{"id": 1}\n\n{"id": "caf\xe9"}\n', 3, "byte 0xe9 is not UTF-8"),
        ("a.json", b'[{"id": 1},\n {"id": }]', 2, "not JSON"),
        ("a.json", b"[1]", 1, "expected a JSON object, found int"),
        ("a.csv", b"id,text\n1,one\n2,two,three\n", 3, "more cells than the header's 2"),
        ("a.csv", b"id,text\n1\n", 2, "no cell for column 'text'"),
        ("a.jsonl.gz", gzip.compress(b'{"id": 1}\n' * 9, mtime=0)[:-12], None, "the gzip ends early or is broken"),
        ("a.jsonl.gz", b'{"id": 1}\n', 1, "the gzip ends early or is broken"),
        ("a.jsonl.gz", gzip.compress(b'{"id": 1}\n{"id": "\xe9"}\n', mtime=0), 2, "byte 0xe9 is not UTF-8"),
        ("a.jsonl.bz2", bz2.compress(b'{"id": 1}\n' * 9)[:-12], 1, "the bzip2 ends early or is broken"),
        ("a.jsonl.bz2", b'{"id": 1}\n', 1, "the bzip2 ends early or is broken"),
    ],
)
def test_errors_name_the_broken_line(
    tmp_path: Path, name: str, content: bytes, line: int | None, problem: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInput) as raised:
        list(read_rows(path))
    message = str(raised.value)
    assert "\n" not in message
    assert problem in message
    assert message.startswith(f"{path}:" if line is None else f"{path}:{line}: ")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.jsonl.gz"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"") if name.endswith("gz") else b"")
    with pytest.raises(BadInput, match="holds no rows"):
        list(read_rows(path))


def test_a_missing_file_a_folder_and_an_unknown_ending_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        list(read_rows(tmp_path / "a.jsonl"))
    (tmp_path / "b.jsonl").mkdir()
    with pytest.raises(BadInput, match="is a folder"):
        list(read_rows(tmp_path / "b.jsonl"))
    with pytest.raises(BadInput, match=r"cannot tell the format.*\.jsonl"):
        list(read_rows(tmp_path / "c.docx"))
    with pytest.raises(BadInput, match=r"d\.XLSX: a workbook cannot be read; save its sheet as CSV$"):
        list(read_rows(tmp_path / "d.XLSX"))


def test_bytes_of_another_encoding_are_refused_with_the_whole_command_that_converts_them(tmp_path: Path) -> None:
    path = tmp_path / "my questions.csv"
    path.write_bytes("question\nMühle?".encode("cp1252"))
    with pytest.raises(BadInput, match=r":2: byte 0xfc is .* iconv -f cp1252 -t utf-8 '.*my questions\.csv'$"):
        list(read_rows(path))


def test_a_bzip2_file_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.bz2"
    path.write_bytes(bz2.compress(b'{"id": "a"}\n'))
    assert [(place.line, row) for place, row in read_rows(path)] == [(1, {"id": "a"})]


def test_text_loses_carriage_returns_and_byte_order_mark_and_names_a_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\n")
    assert read_text(path) == "one\ntwo\n"
    path.write_bytes(b"one\ntw\xf6\n")
    with pytest.raises(BadInput, match=r"a\.txt:2: byte 0xf6 is not UTF-8"):
        read_text(path)


@pytest.mark.parametrize(
    ("name", "raw", "problem"),
    [
        ("a.jsonl", b"{}\n" + b"[" * 100_000, "a.jsonl:2: lists or objects inside each other, too deep"),
        ("a.json", b"[" * 100_000, "a.json:1: lists or objects inside each other, too deep"),
        ("a.jsonl", b'{"a": ' + b"9" * 5000 + b"}", "a.jsonl:1: a number of more than 4,300 digits"),
        ("a.jsonl", b'{"a": "x\\ud800y"}', "a.jsonl:1: half a character"),
        ("a.jsonl.gz", gzip.compress(b"\xff\n" * 100_000)[:-20], "a.jsonl.gz:1: byte 0xff is not UTF-8"),
        ("a.csv", b"a,b,a\n1,2,3\n", "a.csv:1: two columns are named 'a'"),
    ],
)
def test_what_nothing_can_store_is_refused_in_one_line(tmp_path: Path, name: str, raw: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(BadInput) as caught:
        list(read_rows(tmp_path / name))
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": "\\ud83d\\ude00"}')
    assert [row for _, row in read_rows(tmp_path / "a.jsonl")] == [{"a": "\N{GRINNING FACE}"}]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(BadInput, match="is a pipe or device, not a file"):
        list(read_rows(tmp_path / "a.csv"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_mark_at_the_beginning_tells_the_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes("id,text\r\n1,gro\u00df\r\n".encode(encoding))
    assert list(read_rows(tmp_path / "a.csv")) == [
        (FilePosition(tmp_path / "a.csv", 2), {"id": "1", "text": "gro\u00df"})
    ]
    (tmp_path / "a.txt").write_bytes("gro\u00df\r\n".encode(encoding))
    assert read_text(tmp_path / "a.txt") == "gro\u00df\n"


def test_what_only_begins_like_utf_16_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("id,text\n".encode("utf-16") + b"x")
    with pytest.raises(BadInput, match=r"a\.csv: begins like UTF-16 but is none \(truncated data\)"):
        list(read_rows(tmp_path / "a.csv"))


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("id;text\n1;a, b\n", {"id": "1", "text": "a, b"}),
        ("id\ttext\n1\ta;b\n", {"id": "1", "text": "a;b"}),
        ("id;text;note, if any\n1;x;y\n", {"id": "1", "text": "x", "note, if any": "y"}),
        ('"id;text",text\n1,x\n', {"id;text": "1", "text": "x"}),
        ("id,text\n1,a;b;c;d\n", {"id": "1", "text": "a;b;c;d"}),
    ],
)
def test_the_first_line_of_a_table_tells_its_delimiter(tmp_path: Path, text: str, row: dict[str, str]) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    assert [row for _, row in read_rows(tmp_path / "a.csv")] == [row]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_the_first_line_may_be_longer_than_the_csv_modules_own_limit(tmp_path: Path, ending: str) -> None:
    csv.field_size_limit(131_072)  # as in a new process
    path = tmp_path / f"a.{ending}"
    path.write_text(f"{'x' * 200_000}\ny\n")
    assert [dict(row) for _, row in read_rows(path)] == [{"x" * 200_000: "y"}]


def test_a_cell_may_hold_a_whole_article(tmp_path: Path) -> None:
    article = "word " * 30_000
    (tmp_path / "a.csv").write_text(f'id,text\n1,"{article}"\n', encoding="utf-8")
    assert [row["text"] for _, row in read_rows(tmp_path / "a.csv")] == [article]


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("a.csv", "id,text\n1\n2,x\n3,y,z\n", ["a.csv:2: no cell", "a.csv:4: more cells"]),
        (
            "a.jsonl",
            '{"id"\n{"id": "2", "text": "x"}\n[3]\n',
            ["a.jsonl:1: not JSON", "a.jsonl:3: expected"],
        ),
        ("a.json", '[1, {"id": "2", "text": "x"}]', ["a.json:1: expected a JSON object"]),
    ],
)
def test_bad_rows_are_told_and_the_others_read(tmp_path: Path, name: str, text: str, wrong: list[str]) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    told: list[str] = []
    rows = [dict(row) for _, row in read_rows(tmp_path / name, lambda error: told.append(str(error)))]
    assert rows == [{"id": "2", "text": "x"}]
    assert len(told) == len(wrong)
    for problem, expected in zip(told, wrong, strict=True):
        assert problem.startswith(str(tmp_path / expected))


def test_one_question_as_an_object_is_a_row_and_its_options_are_none(tmp_path: Path) -> None:
    row = {"question": "Which floats?", "options": ["iron", "cork"], "answer": "cork"}
    (tmp_path / "one.json").write_text(json.dumps(row))
    assert [found for _, found in read_rows(tmp_path / "one.json")] == [row]
    (tmp_path / "many.json").write_text(json.dumps({"version": 1, "data": [row, row]}))
    assert [found for _, found in read_rows(tmp_path / "many.json")] == [row, row]


KILLED = """
import os, sys
from pathlib import Path
from kard.files import atomic

with atomic(Path(sys.argv[1]), folder=bool(sys.argv[2])) as part:
    (part / "file" if sys.argv[2] else part).write_text("half")
    os._exit(9)
"""


@pytest.mark.parametrize("folder", [False, True])
def test_what_a_killed_process_left_half_written_goes_when_something_is_written_beside_it(
    tmp_path: Path, folder: bool
) -> None:
    words = [sys.executable, "-c", KILLED, str(tmp_path / "a"), "yes" * folder]
    assert subprocess.run(words, check=False).returncode == 9
    assert len(list(tmp_path.iterdir())) == 1
    with atomic(tmp_path / "b") as mine:
        mine.write_text("half")
        with atomic(tmp_path / "c") as other:
            other.write_text("c")
        assert mine.exists()  # of a process that lives
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b", "c"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('id,text\n1,one\n2,two\n3,"three\n4,four\n', 4),
        ('id,text\n1,"one\nmore"\n\n2,two\n"3","it is\na ""word""\n4,"four"\n', 6),
        ('id,text\n1,5" wide\n2,"two\nand ""so""\n', 3),
        ('id,text\n1,"one" more\n', 2),
        ('id,"text\n1,one\n', 1),
    ],
)
def test_a_quote_that_is_not_closed_is_named_where_it_opens(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=r"not CSV \(.*check the quote that opens in this line") as raised:
        list(read_rows(tmp_path / "a.csv"))
    assert str(raised.value).startswith(f"{tmp_path / 'a.csv'}:{line}: ")


def test_a_row_is_placed_where_it_begins(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,text\n1,"one\ntwo"\n2,x\n', encoding="utf-8")
    assert [place.line for place, _ in read_rows(tmp_path / "a.csv")] == [2, 4]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_what_a_spreadsheet_leaves_empty_is_no_row_and_no_column(tmp_path: Path, name: str) -> None:
    text = ",,,\n\nid,text,,\n1,one,,\n,,,\n , ,,,,\n,\n2,two,,\n,,,\n"
    (tmp_path / name).write_text(text.replace(",", "\t" if name == "a.tsv" else ","), encoding="utf-8")
    rows = [(place.line, dict(row)) for place, row in read_rows(tmp_path / name)]
    assert rows == [(4, {"id": "1", "text": "one"}), (8, {"id": "2", "text": "two"})]


def test_an_empty_row_of_parquet_is_no_row(tmp_path: Path) -> None:
    table = import_module("pyarrow").Table.from_pylist([{"id": "1"}, {"id": None}, {"id": ""}, {"id": "2"}])
    import_module("pyarrow.parquet").write_table(table, tmp_path / "a.parquet")
    assert [(place.line, row["id"]) for place, row in read_rows(tmp_path / "a.parquet")] == [(1, "1"), (4, "2")]


def test_the_case_of_a_field_s_name_is_ignored_where_one_field_can_be_meant(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Question ,a,A,ID,Id\nWhy?,x,y,1,2\n", encoding="utf-8")
    ((_, row),) = read_rows(tmp_path / "a.csv")
    assert (row["question"], row.get("QUESTION"), row["a"], row["A"]) == ("Why?", "Why?", "x", "y")
    assert "question" in row
    assert "id" not in row
    assert row.get("id") is None
    with pytest.raises(KeyError, match="id"):
        row["id"]
