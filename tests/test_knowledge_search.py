"""BM25 over prose: any text may be asked, and a passage scores the same however it is asked about."""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from kard.cli import main
from kard.cli.knowledge import snippet
from kard.config import Retrieval
from kard.errors import Missing
from kard.knowledge.analysis import LANGUAGES, analyser, searchable
from kard.knowledge.bm25 import NEVER_COMMON
from kard.knowledge.indexing import index_documents
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.records import Document, digest

ANIMALS = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"]
VERBS = ["dig", "fly", "purr", "bark", "swim", "hunt", "graze", "cluck", "wade", "sing"]
# 300 passages: "world" in all, an animal in 60 (its own 30 and its neighbour's), a verb in 30, a number in one.
DOCUMENTS = [
    Document(f"d{i}", f"{ANIMALS[i % 10]} {i}", f"The {ANIMALS[(i + 1) % 10]} of the world {VERBS[i % 10]} n{i}x")
    for i in range(300)
]


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    folder = tmp_path_factory.mktemp("kb")
    index_documents(DOCUMENTS, folder, source="s")
    return KnowledgeBase.open(folder)


def bm25(query: str, document: Document) -> float:
    """BM25 by its textbook formula, for words that are their own stems and lengths that Tantivy keeps exactly."""
    texts = [f"{d.title} {d.text}".lower().split() for d in DOCUMENTS]
    mean = sum(len(t) for t in texts) / len(texts)
    words = f"{document.title} {document.text}".lower().split()
    total = 0.0
    for term, times in Counter(query.lower().split()).items():
        df = sum(term in t for t in texts)
        idf = math.log(1 + (len(texts) - df + 0.5) / (df + 0.5))
        tf = words.count(term)
        total += times * idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(words) / mean))
    return total


def test_scores_are_bm25_with_query_terms_counted(kb: KnowledgeBase) -> None:
    query = "ant dig dig n40x n50x"
    hits = kb.search(query, 400, max_df=1.0)
    by_key = {d.key: d for d in DOCUMENTS}
    assert [h.rank for h in hits] == list(range(1, len(hits) + 1))
    assert {h.passage.document for h in hits} == {d.key for d in DOCUMENTS if bm25(query, d)}
    for hit in hits:
        assert hit.bm25 == pytest.approx(bm25(query, by_key[hit.passage.document]), rel=1e-5)
    assert [h.bm25 for h in hits] == sorted((h.bm25 for h in hits), reverse=True)


def test_a_search_reads_its_texts_by_one_statement_and_keeps_ids_scores_and_order(kb: KnowledgeBase) -> None:
    statements: list[str] = []
    db = kb._db  # pyright: ignore[reportPrivateUsage]  # the statements are what is counted
    db.set_trace_callback(statements.append)
    hits = kb.search(["dig n40x", "fly n71x"], 50)
    db.set_trace_callback(None)
    assert len(hits) == 50
    assert len(statements) == 1
    scores = kb.search_rowids(["dig n40x", "fly n71x"], 50)
    ids = kb.ids([rowid for rowid, _ in scores])
    assert [(hit.passage.id, hit.bm25) for hit in hits] == [(ids[rowid], score) for rowid, score in scores]
    assert [hit.passage for hit in hits] == kb.passages([hit.passage.id for hit in hits])


def test_titles_are_searched_and_stems_match(kb: KnowledgeBase) -> None:
    assert {h.passage.document for h in kb.search("n7x", 5)} == {"d7"}
    assert {h.passage.title.split()[0] for h in kb.search("digging", 300)} == {"ant"}
    assert [h.passage.document for h in kb.search("299", 5)] == ["d299"]


def test_common_terms_do_not_count_beside_rarer_ones_but_alone_they_do(kb: KnowledgeBase) -> None:
    # "world" is in all 300 passages, n7x in one.
    assert [h.passage.document for h in kb.search("world n7x", 300, max_df=0.05)] == ["d7"]
    assert len(kb.search("world n7x", 300, max_df=1.0)) == 300
    assert len(kb.search("world", 300, max_df=0.05)) == 300
    assert kb.search("world n7x", 1, max_df=0.05)[0].bm25 == kb.search("n7x", 1)[0].bm25


def test_the_share_that_makes_a_term_common_is_the_callers(kb: KnowledgeBase) -> None:
    assert len(kb.search("dig n7x", 300, max_df=0.1)) == 31
    assert len(kb.search("dig n7x", 300, max_df=0.0999)) == 1


def test_in_a_small_base_a_term_in_ten_passages_is_not_common_and_one_in_eleven_is(tmp_path: Path) -> None:
    texts = ["rain falls"] * NEVER_COMMON + ["snow melts"] * (NEVER_COMMON + 1) + ["one hailstone"]
    index_documents([Document(str(i), "", text) for i, text in enumerate(texts)], tmp_path, source="s")
    base = KnowledgeBase.open(tmp_path)
    assert len(base.search("rain hailstone", 50, max_df=0.05)) == NEVER_COMMON + 1
    assert len(base.search("snow hailstone", 50, max_df=0.05)) == 1


words = st.sampled_from([*ANIMALS, *VERBS, "world", "n7x", "n8x", "AND", "nowhere"])
prose = st.lists(words, max_size=12).map(" ".join)


@settings(deadline=None)
@given(query=prose, max_df=st.sampled_from([0.05, 0.15, 1.0]), picked=st.sets(st.integers(0, 299), max_size=20))
def test_scoring_given_passages_equals_searching(
    kb: KnowledgeBase, query: str, max_df: float, picked: set[int]
) -> None:
    searched = {h.passage.id: h.bm25 for h in kb.search(query, 300, max_df=max_df)}
    passages = [p.id for p in kb.of_documents([f"d{i}" for i in sorted(picked)])]
    scores = kb.score(query, passages, max_df=max_df)
    assert list(scores) == passages
    assert scores == {p: pytest.approx(searched.get(p, 0.0), rel=1e-5) for p in passages}


@settings(deadline=None)
@given(query=prose, k=st.integers(0, 40), others=st.sets(st.integers(1, 300), max_size=20))
def test_searching_and_scoring_at_once_is_searching_and_then_scoring(
    kb: KnowledgeBase, query: str, k: int, others: set[int]
) -> None:
    expected = {
        **dict.fromkeys(others, 0.0),
        **kb.score_rowids(query, list(others)),
        **dict(kb.search_rowids(query, k)),
    }
    assert kb.search_and_score_rowids(query, k, list(others)) == pytest.approx(expected, rel=1e-5)


@settings(deadline=None, max_examples=200)
@given(query=st.text() | st.text(st.characters()) | st.text('AND OR NOT +-^~*?:"()[]{}/\\n7x'))
def test_any_text_may_be_asked(kb: KnowledgeBase, query: str) -> None:
    hits = kb.search(query, 3)
    assert len(hits) <= 3
    assert kb.score(query, [h.passage.id for h in hits]) == {h.passage.id: pytest.approx(h.bm25) for h in hits}


@pytest.mark.parametrize(
    "query",
    ["(" * 10_000, "Mongol:*", "-n7x NOT n7x", '"n7x', "n7x\x00n7x", "\ud800 n7x", "n7x " * 5_000, "", "zzz"],
)
def test_query_syntax_and_torn_characters_are_prose(kb: KnowledgeBase, query: str) -> None:
    documents = [h.passage.document for h in kb.search(query, 5)]
    assert documents == (["d7"] if "n7x" in query else [])


@pytest.mark.parametrize("k", [-1, 0])
def test_asking_for_nothing_finds_nothing(kb: KnowledgeBase, k: int) -> None:
    assert kb.search("ant", k) == []


def test_passages_come_back_in_the_order_asked_and_unknown_ones_are_left_out(kb: KnowledgeBase) -> None:
    ids = [p.id for p in kb.of_documents([f"d{i}" for i in range(299, -1, -1)])]
    assert len(ids) == 300
    asked = [ids[5], "no such id", *ids]
    assert [p.id for p in kb.passages(asked)] == [ids[5], *ids]
    assert kb.score("ant", ["no such id"]) == {}
    assert kb.of_documents(["no such key"]) == []


def test_passages_of_a_document_come_in_the_order_of_their_parts(tmp_path: Path) -> None:
    text = " ".join(f"Word{i}." for i in range(60))
    index_documents([Document("b", "B", text), Document("a", "A", "Short.")], tmp_path, source="s", words=10)
    passages = KnowledgeBase.open(tmp_path).of_documents(["b", "a", "b"])
    assert [(p.document, p.part) for p in passages] == [*(("b", i) for i in range(6)), ("a", 0)]


def test_threads_may_share_a_base(kb: KnowledgeBase) -> None:
    queries = [f"{a} {v} n{i}x" for i in range(20) for a in ANIMALS[:5] for v in VERBS[:3]]
    expected = [kb.search(q, 10) for q in queries]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(kb.search, queries, [10] * len(queries))) == expected


def test_a_base_that_is_not_there_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(Missing, match=r"no knowledge base in .*; build one with: kard index SOURCE"):
        KnowledgeBase.open(tmp_path / "kb")
    (tmp_path / "passages.db").write_bytes(b"not a database, but long enough to look like one" * 30)
    with pytest.raises(Missing, match=r"cannot read .*kard index --repair"):
        KnowledgeBase.open(tmp_path)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_index_says_what_it_did_and_what_comes_next_and_records_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.jsonl").write_text('{"id": "a", "title": "Ants", "text": "They dig."}\n', encoding="utf-8")
    code, out, err = run("index", "s.jsonl", "--quiet")
    assert (code, err, out.count("\n")) == (0, "", 2)
    assert out.endswith("\nNext: kard load TASK FILE\n")
    assert out.startswith("1 passage added, 0 removed, 0 kept; 1 in kard.knowledge (")
    assert run("index", "s.jsonl")[1].startswith("0 passages added, 0 removed, 1 kept; 1 in kard.knowledge (")
    rows = json.loads(run("query", "select passages, analyser from indexes", "--json")[1])
    assert rows == [{"passages": 1, "analyser": "en_stem of title and text"}]


def test_search_shows_passages_as_a_table_and_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "They dig \x1b[31mdeep " + "and on " * 60
    Path("s.jsonl").write_text(json.dumps({"id": "a", "title": "Ants", "text": text}) + "\n", encoding="utf-8")
    assert run("index", "s.jsonl", "--knowledge", "kb")[0] == 0
    code, out, _ = run("search", "what do ants dig?", "--knowledge", "kb")
    assert code == 0
    assert "Ants" in out
    assert "\x1b" not in out
    hits = json.loads(run("search", "ants", "--knowledge", "kb", "--json")[1])
    assert [(f["rank"], f["document"], f["title"], f["text"]) for f in hits] == [(1, "a", "Ants", text.strip())]
    assert hits[0]["bm25"] == KnowledgeBase.open(Path("kb")).search("ants", 1)[0].bm25
    assert run("search", "zebra", "--knowledge", "kb")[1] == "No passage holds any of these words.\n"
    assert json.loads(run("search", "zebra", "--knowledge", "kb", "--json")[1]) == []


def test_a_bad_source_and_a_missing_base_are_one_line_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (("index", "none.jsonl"), ("search", "ants")):
        code, out, err = run(*arguments)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("Error: ")
    assert not Path("kard.knowledge").exists()
    assert not Path("kard.db").exists()


@given(st.text())
def test_a_snippet_is_one_short_line(text: str) -> None:
    line = snippet(text, 20)
    assert len(line) <= 20
    assert len(line.splitlines()) <= 1


def test_a_search_may_drop_other_terms_than_the_default_or_none(
    kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_in_a_large_one(settings: Retrieval, _passages: int) -> float:
        return settings.max_df

    monkeypatch.setattr(Retrieval, "max_df_among", as_in_a_large_one)

    def search(*options: str) -> Any:
        place = ["--knowledge", str(kb.folder), "-n", "300", "--json"]
        return CliRunner().invoke(main, ["search", "world n7x", *place, *options])

    found = [len(json.loads(search(*o).output)) for o in ((), ("--max-df", "0.5"), ("--max-df", "1"), ("--exact",))]
    assert found == [1, 1, 300, 300]
    for wrong in (("--exact", "--max-df", "1"), ("--exact", "--retriever", "dense"), ("--max-df", "0")):
        assert search(*wrong).exit_code == 2


SCRIPTS = {
    "a": "东京是日本的首都,人口超过一千三百万。",
    "b": "北京是中国的首都。",
    "c": "東京タワーは高さ333メートルの電波塔である。",
    "d": "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
    "e": "The caf\N{LATIN SMALL LETTER E WITH ACUTE} is 10\N{SUPERSCRIPT THREE} m from the \ufb01sh mar\u00adket.",
    "f": "Windows\N{TRADE MARK SIGN} weighs 5\N{SQUARE KG} and 1\N{VULGAR FRACTION ONE HALF} pounds.",
}  # fmt: skip


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    folder = tmp_path_factory.mktemp("scripts")
    index_documents([Document(key, "", text) for key, text in SCRIPTS.items()], folder, source="s")
    return KnowledgeBase.open(folder)


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("日本的首都", "a"),
        ("人口", "a"),
        ("北京", "b"),
        ("タワー", "c"),
        ("電波塔の高さ", "c"),
        ("\uff80\uff9c\uff70", "c"),  # half as wide
        ("ประเทศไทย", "d"),
        ("cafe\N{COMBINING ACUTE ACCENT}", "e"),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "e"),
        ("fish", "e"),
        ("market", "e"),
        ("mar\N{SOFT HYPHEN}kets", "e"),
        ("10", "e"),
        ("windows", "f"),
        ("kg", "f"),
    ],
)
def test_what_is_written_in_another_form_or_without_spaces_is_found(
    scripts: KnowledgeBase, query: str, best: str
) -> None:
    assert [hit.passage.document for hit in scripts.search(query, 1)] == [best]


@pytest.mark.parametrize("joined", ["103", "11", "windowstm", "5kg"])
def test_what_is_raised_or_a_sign_does_not_join_what_stands_before_it(scripts: KnowledgeBase, joined: str) -> None:
    assert scripts.search(joined, 5) == []


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_is_searched_as_it_always_was(text: str) -> None:
    assert searchable(text) == text


@settings(deadline=None)
@given(st.text(), st.sampled_from(["NFC", "NFD", "NFKD"]))
def test_every_form_of_a_text_gives_the_same_terms(text: str, form: Any) -> None:
    plain = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode())
    assert searchable(unicodedata.normalize(form, plain)) == searchable(plain)


def test_the_english_analyser_and_the_id_of_an_english_base_are_what_they_were(kb: KnowledgeBase) -> None:
    parts = digest("en_stem of title and text", *sorted(kb.passage_ids()), length=64)
    assert kb.id == digest(parts)
    assert analyser().analyze("The runners' 3rd flying ponies") == ["the", "runner", "3rd", "fli", "poni"]


@pytest.mark.parametrize(
    ("language", "text", "query"),
    [
        ("german", "Viele H\N{LATIN SMALL LETTER A WITH DIAERESIS}user brennen", "Haus"),
        ("french", "Les chevaux couraient vite", "courait"),
        ("russian", "\u043a\u043d\u0438\u0433\u0438", "\u043a\u043d\u0438\u0433\u0430"),
        ("finnish", "talossa on ovi", "talo"),
    ],
)
def test_stems_are_those_of_the_base_s_language(tmp_path: Path, language: str, text: str, query: str) -> None:
    for chosen in ("none", language):
        index_documents([Document("a", "", text)], tmp_path / chosen, source="s", language=chosen)
    assert KnowledgeBase.open(tmp_path / "none").search(query, 1) == []
    assert len(KnowledgeBase.open(tmp_path / language).search(query, 1)) == 1


def test_every_language_of_the_command_has_an_analyser() -> None:
    assert all(analyser(language).analyze("Houses") for language in LANGUAGES)


def test_the_language_is_recorded_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.jsonl").write_text('{"id": "a", "text": "Die Hunde bellen"}\n', encoding="utf-8")
    assert run("index", "s.jsonl", "--language", "german")[0] == 0
    assert run("index", "s.jsonl")[0] == 0
    rows = json.loads(run("query", "select analyser from indexes", "--json")[1])
    assert rows == [{"analyser": "german_stem of title and text"}]
    assert "Hunde" in run("search", "Hund")[1]
    assert run("index", "s.jsonl", "--language", "klingon")[0] == 2
