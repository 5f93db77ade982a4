"""Documents out of what people have."""

from __future__ import annotations

import bz2
import gzip
import importlib
import json
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kard import files
from kard.errors import BadInput, NoExtra
from kard.knowledge import mediawiki
from kard.knowledge.sources import KEYS, TEXTS, document_of, documents, place_of, text_document
from kard.knowledge.splitting import split
from kard.records import Document

FIXTURES = Path(__file__).parent / "fixtures"


def jsonl(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "document"),
    [
        ({"id": "a", "title": "T", "text": "x"}, Document("a", "T", "x")),
        ({"id": 7, "url": "u", "title": "T", "text": "x"}, Document("7", "T", "x")),
        ({"_id": "b", "title": "", "text": "x", "metadata": {}}, Document("b", "", "x")),
        ({"pmid": 12, "title": "T", "abstract": "x"}, Document("12", "T", "x")),
        ({"pmid": "12", "title": "T", "abstractText": ["one", "two"]}, Document("12", "T", "one\n\ntwo")),
        ({"PMID": 12, "title": None, "contents": "x"}, Document("12", "", "x")),
        ({"id": "p1", "PMID": 12, "title": "T", "content": "x", "contents": "T. x"}, Document("p1", "T", "T. x")),
        ({"id": "a", "title": "T", "text": None, "abstract": "x"}, Document("a", "T", "x")),
        ({"id": "a", "text": "no title at all"}, Document("a", "", "no title at all")),
        ({"id": "a", "title": "T", "text": None}, Document("a", "T", "")),
    ],
)
def test_rows_of_many_data_sets_become_documents(row: dict[str, object], document: Document) -> None:
    assert document_of(row) == document


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"title": "T", "text": "x"}, "no id; a row needs one of id, _id"),
        ({"id": "", "title": "T", "text": "x"}, "no id"),
        ({"id": True, "title": "T", "text": "x"}, "no id"),
        ({"id": 1.5, "title": "T", "text": "x"}, "no id"),
        ({"id": "a", "title": "T"}, "no text for 'a'; a row needs one of text"),
        ({"id": "a", "title": ["T"], "text": "x"}, "the title of 'a' is not a text but list"),
        ({"id": "a", "title": "T", "text": 3}, "the text of 'a' is not a text but int"),
    ],
)
def test_a_row_that_is_no_document_says_why(row: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        document_of(row)


@given(
    key=st.sampled_from(KEYS),
    named=st.text(min_size=1) | st.integers(),
    title=st.none() | st.text(),
    column=st.sampled_from(TEXTS),
    text=st.none() | st.text(),
)
def test_a_document_is_what_its_columns_say_under_any_of_their_names(
    key: str, named: str | int, title: str | None, column: str, text: str | None
) -> None:
    row: dict[str, object] = {"more": 1, key: named, "title": title, column: text}
    assert document_of(row) == Document(str(named), title or "", text or "")


def test_a_missing_field_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", [{"id": "a", "text": "x"}, {"id": "b"}])
    with pytest.raises(BadInput) as raised:
        list(documents(path))
    assert str(raised.value).startswith(f"{path}:2: no text for 'b'")


def test_documents_without_any_text_are_passed_over(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", [{"id": "a", "text": " \n"}, {"id": "b", "title": "T", "text": "x"}])
    assert [d.key for d in documents(path)] == ["b"]


def test_a_place_is_that_of_the_last_document_of_the_key(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", [{"id": k, "text": "x"} for k in "abab"])
    assert place_of(path, "a") == f"{path}:3"
    assert place_of(path, "z") == str(path)


def test_a_table_is_a_source_too(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("id,title,text\n1,T,x\n", encoding="utf-8")
    assert list(documents(path)) == [Document("1", "T", "x")]


@pytest.mark.parametrize(
    ("text", "title", "body"),
    [
        ("# Ants\n\nThey dig.\n", "Ants", "# Ants\n\nThey dig."),
        ("---\ntitle: x\ntags: [a]\n---\n\n## Ants ##\nThey dig.", "Ants", "## Ants ##\nThey dig."),
        ("Ants\n====\nThey dig.", "Ants", "Ants\n====\nThey dig."),
        ("They dig.", "ants", "They dig."),
        ("```\n# not a heading\n```\n\n# Ants\nDig.", "Ants", "```\n# not a heading\n```\n\n# Ants\nDig."),
        ("They dig.\n\n---\n\nAnd rest.", "ants", "They dig.\n\n---\n\nAnd rest."),
        ("---\nnever closed", "ants", "---\nnever closed"),
        ("# C#", "C#", "# C#"),
        ("# ##\nDig.\n# Ants", "Ants", "# ##\nDig.\n# Ants"),
        ("```inline``` code\n# Ants", "Ants", "```inline``` code\n# Ants"),
        ("~~~ a\n# no\n```\n~~~~ \n# Ants", "Ants", "~~~ a\n# no\n```\n~~~~ \n# Ants"),
        ("```\n# in code", "ants", "```\n# in code"),
    ],
)
def test_markdown_loses_its_front_matter_and_gives_its_heading(text: str, title: str, body: str) -> None:
    assert text_document("deep/ants.md", ".md", text) == Document("deep/ants.md", title, body)


def test_a_folder_gives_its_texts_by_relative_path_without_hidden_ones(tmp_path: Path) -> None:
    for name, text in {
        "b.txt": "# no heading in plain text",
        "a/x.md": "# X\nbody",
        ".git/c.txt": "no",
        "a/.d.md": "no",
        "e.bin": "no",
        "f.MD": "last",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert [(d.key, d.title) for d in documents(tmp_path)] == [("a/x.md", "X"), ("b.txt", "b"), ("f.MD", "f")]


def test_a_single_text_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "ants.txt").write_text("They dig.", encoding="utf-8")
    assert list(documents(tmp_path / "ants.txt")) == [Document("ants.txt", "ants", "They dig.")]


def test_a_folder_without_texts_and_an_unknown_file_and_nothing_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"holds no \.txt"):
        list(documents(tmp_path))
    (tmp_path / "a.docx").write_bytes(b"PK")
    with pytest.raises(BadInput, match=r"cannot tell the format.*\.jsonl.*\.parquet.*\.xml"):
        list(documents(tmp_path / "a.docx"))
    with pytest.raises(BadInput, match="no such file"):
        list(documents(tmp_path / "b.jsonl"))


def test_a_latin_1_text_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\ntwo \xe4\n")
    with pytest.raises(BadInput, match=r"a\.txt:2: byte 0xe4 is not UTF-8"):
        list(documents(tmp_path))


def parquet(path: Path, rows: list[dict[str, object]]) -> None:
    pa: Any = importlib.import_module("pyarrow")
    importlib.import_module("pyarrow.parquet").write_table(pa.Table.from_pylist(rows), path)


def test_parquet_files_give_their_rows_one_file_or_a_folder(tmp_path: Path) -> None:
    parquet(tmp_path / "b.parquet", [{"id": "2", "url": "u", "title": "B", "text": "y"}])
    parquet(tmp_path / "a.parquet", [{"id": "1", "url": "u", "title": "A", "text": "x"}])
    assert list(documents(tmp_path / "b.parquet")) == [Document("2", "B", "y")]
    assert list(documents(tmp_path)) == [Document("1", "A", "x"), Document("2", "B", "y")]


def test_broken_parquet_and_parquet_without_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(BadInput, match=r"a\.parquet:1: cannot be read as parquet"):
        list(documents(tmp_path / "a.parquet"))
    parquet(tmp_path / "b.parquet", [{"id": "1", "body": "x"}])
    with pytest.raises(BadInput, match=r"b\.parquet:1: no text for '1'"):
        list(documents(tmp_path / "b.parquet"))


LANTERN = """A lantern fish (piscis; c. 1790) is a small fish of the deep ocean. It makes its own light.

It rises at night \N{EN DASH} every night.

Food
It eats:
krill, above all
copepods
small ones

At night
Near the surface it eats more."""


def test_a_dump_gives_articles_without_markup_redirects_or_talk() -> None:
    assert list(documents(FIXTURES / "tiny-wiki.xml.bz2")) == [
        Document("11", "Lantern fish", LANTERN),
        Document("14", "Krill & company", "Krill are small crustaceans of all oceans."),
    ]


def test_a_dump_reads_the_same_however_it_is_zipped(tmp_path: Path) -> None:
    raw = bz2.decompress((FIXTURES / "tiny-wiki.xml.bz2").read_bytes())
    assert raw == (FIXTURES / "tiny-wiki.xml").read_bytes()
    (tmp_path / "d.xml.gz").write_bytes(gzip.compress(raw))
    expected = list(documents(FIXTURES / "tiny-wiki.xml.bz2"))
    assert list(documents(FIXTURES / "tiny-wiki.xml")) == expected
    assert list(documents(tmp_path / "d.xml.gz")) == expected


@pytest.mark.parametrize(
    ("name", "cut", "says"),
    [
        ("a.xml.bz2", slice(300), "the archive is broken after its beginning"),
        ("a.xml", slice(1700), r"not a MediaWiki XML dump from page 11 \(Lantern fish\) on"),
        ("a.xml", slice(0), "not a MediaWiki XML dump from its beginning on"),
    ],
)
def test_a_broken_dump_is_refused_and_says_where(tmp_path: Path, name: str, cut: slice, says: str) -> None:
    path = tmp_path / name
    path.write_bytes((FIXTURES / f"tiny-wiki{path.name[1:]}").read_bytes()[cut])
    with pytest.raises(BadInput, match=says) as raised:
        list(documents(path))
    assert "\n" not in str(raised.value)


def test_a_title_of_two_lines_is_one_in_a_message(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    raw = (FIXTURES / "tiny-wiki.xml").read_text(encoding="utf-8")
    path.write_text(
        raw.replace("<title>Lantern fish</title>", "<title>Lantern\nfish</title>")[:1700], encoding="utf-8"
    )
    with pytest.raises(BadInput, match=r"from page 11 \(Lantern fish\) on"):
        list(documents(path))


def test_a_page_of_html_is_no_dump(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<html>404</html>", encoding="utf-8")
    with pytest.raises(BadInput, match=r"not a MediaWiki XML dump"):
        list(documents(tmp_path / "a.xml"))


@pytest.mark.parametrize(
    ("name", "extra"),
    [("a.parquet", "parquet"), ("a.html", "pages"), ("a.pdf", "pages")],
)
def test_a_missing_extra_names_its_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, extra: str
) -> None:
    real = importlib.import_module

    def without(module: str, package: str | None = None) -> object:
        if module.startswith(("pyarrow", "trafilatura", "pypdf")):
            raise ImportError(module)
        return real(module, package)

    for reader in ("kard.files", "kard.knowledge.pages"):
        monkeypatch.setattr(real(reader), "import_module", without)
    path = tmp_path / name
    path.write_bytes(b"")
    with pytest.raises(NoExtra, match=rf"pip install 'kard\[{extra}\]'"):
        list(documents(path))


def test_each_line_of_a_text_is_a_document_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "facts.txt").write_text("Cork floats.\n\n  Iron rusts. \n", encoding="utf-8")
    expected = [Document("facts.txt:1", "", "Cork floats."), Document("facts.txt:3", "", "Iron rusts.")]
    assert list(documents(tmp_path / "facts.txt", lines=True)) == expected
    assert len(list(documents(tmp_path / "facts.txt"))) == 1
    with pytest.raises(BadInput, match="is a folder"):
        list(documents(tmp_path, lines=True))


def test_the_corpus_of_a_published_folder_is_read_and_neither_its_queries_nor_its_readme(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl.gz").write_bytes(
        gzip.compress(b'{"_id": "1", "title": "", "text": "Cork floats."}\n')
    )
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "Does cork float?"}\n')
    (tmp_path / "README.md").write_text("# A data set\n\nIts licence.")
    assert list(documents(tmp_path)) == [Document("1", "", "Cork floats.")]


HTML = """<html><head><title>Cork  oaks</title></head><body>
<nav><a href="/">Home</a></nav><article><h1>Cork oaks</h1>
<p>The cork oak is an evergreen tree whose bark is peeled every nine years, without felling the tree itself.</p>
<h2>Where they grow</h2><p>Most cork comes from the forests of Portugal, where the law protects every tree.</p>
<table><tr><th>Country</th><th>Tonnes</th></tr><tr><td>Portugal</td><td>100,000</td></tr></table>
</article></body></html>"""


def test_html_keeps_headings_and_tables_as_text(tmp_path: Path) -> None:
    pytest.importorskip("trafilatura")
    (tmp_path / "oak.html").write_text(HTML, encoding="utf-8")
    (document,) = documents(tmp_path)
    assert (document.key, document.title) == ("oak.html", "Cork oaks")
    assert "## Where they grow" in document.text
    assert "bark is peeled every nine years" in document.text
    assert "| Portugal | 100,000 |" in document.text.replace("|Portugal|100,000|", "| Portugal | 100,000 |")
    assert "Home" not in document.text


def pdf(text: str) -> bytes:
    """Return a PDF of one page with one line."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = b"%PDF-1.4\n", list[int]()
    for number, part in enumerate(parts, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"xref\n0 6\n0000000000 65535 f \n%strailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (
        table,
        len(out),
    )


def test_pdf_gives_its_text_and_a_broken_one_a_line(tmp_path: Path) -> None:
    pytest.importorskip("pypdf")
    (tmp_path / "oak.pdf").write_bytes(pdf("Cork floats on water."))
    assert list(documents(tmp_path / "oak.pdf")) == [Document("oak.pdf", "oak", "Cork floats on water.")]
    (tmp_path / "oak.pdf").write_bytes(b"%PDF-1.4 nothing else")
    with pytest.raises(BadInput, match=r"oak\.pdf: cannot be read as PDF"):
        list(documents(tmp_path / "oak.pdf"))


DUMP = "<mediawiki><siteinfo/>{}</mediawiki>"
PAGE = "<page><title>A</title><ns>0</ns><id>7</id><revision>{}<text>ants</text></revision></page>"
LONG = "x" * 500_000


def dump(path: Path, content: str) -> Path:
    path.write_bytes(bz2.compress(content.encode()) if path.suffix == ".bz2" else content.encode())
    return path


@pytest.mark.parametrize(
    "revision",
    [
        "<timestamp>yesterday</timestamp>",
        "<timestamp></timestamp><id>-</id>",
        "<id>one</id><parentid>two</parentid>",
        "<contributor><username>U</username><id>many</id></contributor><format>f</format><unknown/>",
        "<timestamp>2024-01-01T00:00:00+02:00</timestamp><sha1/><bytes>lots</bytes>",
    ],
)
def test_what_a_dump_says_beside_its_text_may_be_anything(tmp_path: Path, revision: str) -> None:
    path = dump(tmp_path / "d.xml", DUMP.format(PAGE.format(revision)))
    assert list(documents(path)) == [Document("7", "A", "ants")]


def test_a_dump_without_numbers_of_namespaces_tells_articles_by_their_titles(tmp_path: Path) -> None:
    page = "<page><title>{}</title><id>{}</id><revision><text>ants</text></revision></page>"
    names = '<siteinfo><namespaces><namespace key="0" /><namespace key="1">Talk</namespace></namespaces></siteinfo>'
    pages = "".join(page.format(t, i) for i, t in enumerate(["Ant", "Talk:Ant", "Ant: a story"]))
    path = dump(tmp_path / "d.xml", f"<mediawiki>{names}{pages}</mediawiki>")
    assert [d.title for d in documents(path)] == ["Ant", "Ant: a story"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (DUMP.format(PAGE.format("") + "<page><title>B</title><ns>0</ns></page>"), "the page 'B' has no id"),
        ("<?xml version='1.0' encoding='klingon'?>" + DUMP.format(""), "not a MediaWiki XML dump"),
        (
            "<!DOCTYPE m [<!ENTITY a 'ha'>"
            + "".join(f"<!ENTITY {chr(98 + i)} '{f'&{chr(97 + i)};' * 20}'>" for i in range(12))
            + "]>"
            + DUMP.format("&m;"),
            "not a MediaWiki XML dump",
        ),
        (DUMP.format(PAGE.format("") + "<page><title>B</title>"), r"not a MediaWiki XML dump from page 7 \(A\) on"),
    ],
)
def test_what_no_wiki_writes_is_refused_in_one_line(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as raised:
        list(documents(dump(tmp_path / "d.xml", content)))
    assert "\n" not in str(raised.value)


def test_an_endless_revision_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mediawiki, "LONGEST", 200_000)
    monkeypatch.setattr(mediawiki, "PIECE", 50_000)
    path = dump(tmp_path / "d.xml.bz2", DUMP.format(PAGE.format("") + PAGE.replace("ants", LONG)))
    with pytest.raises(BadInput, match=r"more than 200,000 bytes after page 7 \(A\)"):
        list(documents(path))
    many = dump(tmp_path / "e.xml.bz2", DUMP.format(PAGE.replace("ants", "x" * 60_000) * 10))
    assert len(list(documents(many))) == 10


def memory_of(read: Callable[[], object]) -> int:
    """Return the most bytes that Python's objects took meanwhile."""
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["b.jsonl.gz", "b.json.gz", "b.csv.gz", "b.jsonl.bz2"])
def test_what_a_small_archive_unpacks_to_is_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(files, "LONGEST_LINE", 100_000)
    path = tmp_path / name
    content = b'{"id": "a", "text": "' + b"x" * 20_000_000
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else bz2.compress(content))

    def read() -> None:
        with pytest.raises(BadInput, match=r"more than [\d,]+ characters"):
            list(documents(path))

    assert memory_of(read) < 8_000_000


def test_a_large_file_that_is_no_archive_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LONGEST_LINE", 1_000)
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"id": "a", "text": LONG}]), encoding="utf-8")
    assert [len(d.text) for d in documents(path)] == [len(LONG)]


def test_parquet_that_unpacks_to_many_times_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet(tmp_path / "a.parquet", [{"id": "1", "text": LONG}])
    assert len(list(documents(tmp_path / "a.parquet"))) == 1
    monkeypatch.setattr(files, "LONGEST_LINE", 1_000)
    monkeypatch.setattr(files, "MOST_UNPACKED", 5)
    with pytest.raises(BadInput, match=r"a\.parquet.*unpacks to more than 5 times its size"):
        list(documents(tmp_path / "a.parquet"))


def test_a_key_or_title_that_would_fill_every_passage_is_refused(tmp_path: Path) -> None:
    for row, says in (({"id": LONG, "text": "x"}, "id"), ({"id": "a", "title": LONG, "text": "x"}, "title")):
        path = jsonl(tmp_path / "d.jsonl", [{"id": "b", "text": "y"}, row])
        with pytest.raises(BadInput, match=rf"d\.jsonl:2: {says} of 500,000 characters; at most 5,000"):
            list(documents(path))
    (tmp_path / "d.md").write_text(f"# {LONG}\n\n# Ants\n", encoding="utf-8")
    assert [d.title for d in documents(tmp_path / "d.md")] == ["Ants"]


HOSTILE = (
    *("# a" + " " * 7, "`", "~", "```\n", "#", "# ", "=", "a\n=", "---\n", "--- ", "\n", " \n", "\n- ", "\r", "a."),
    *(". ", "! (", '."', "\u2003", "\n\u2003", "1.\n", "\n1. ", "[", "*"),
)


@pytest.mark.parametrize("unit", HOSTILE)
@pytest.mark.parametrize("start", ["", "# a", "```", "---\n", "Word. "])
def test_the_time_of_a_text_grows_with_its_length_alone(unit: str, start: str) -> None:
    def once(text: str) -> float:
        begin = time.process_time()
        document = text_document("a.md", ".md", text)
        assert split(document.text, 100) is not None
        return time.process_time() - begin

    def read(size: int) -> float:
        text = f"{start}{unit * (size // len(unit))}. Ants x"
        return min(once(text) for _ in range(3))  # without what the collector of a large process adds

    times = [read(size) for size in (10_000, 40_000, 160_000)]
    # 16 times as long: some 16 times the time, of a quadratic reader 256 times, of a cubic one 4,096 times.
    assert times[2] < 80 * max(times[0], 0.01), times
