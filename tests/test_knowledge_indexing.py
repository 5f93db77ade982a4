"""A base follows its sources exactly, whatever is killed and whatever is broken on the way."""

from __future__ import annotations

import gzip
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kard.cli import main
from kard.errors import BadInput, Missing
from kard.knowledge import indexing, passages_db
from kard.knowledge.bm25 import MAX_SEGMENTS, Postings, PostingsWriter
from kard.knowledge.indexing import Indexed, index_documents, index_source, runs_to_keep
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.knowledge.repair import repair
from kard.knowledge.splitting import split
from kard.knowledge.stored_sources import list_sources, refresh_sources, remove_source
from kard.records import Document, Passage

WORDS = 10


def source(path: Path, texts: Mapping[str, str]) -> Path:
    path.write_text(
        "".join(json.dumps({"id": k, "title": f"T{k}", "text": t}) + "\n" for k, t in texts.items()),
        encoding="utf-8",
    )
    return path


def ids(texts: Mapping[str, str], words: int = WORDS) -> set[str]:
    """The passages that these documents are, worked out without any base."""
    return {Passage.of(k, i, f"T{k}", p).id for k, t in texts.items() for i, p in enumerate(split(t, words))}


def held(folder: Path) -> set[str]:
    """The passages of the base; fails unless both files and the base's own count agree on them."""
    with closing(sqlite3.connect(folder / "passages.db")) as db:
        rows = dict(db.execute("select rowid, id from passages"))
        assert db.execute("select count(*) from leaving").fetchone() == (0,)
    kb = KnowledgeBase.open(folder)
    assert kb.count == len(rows)
    query = kb.postings.query("tone ttwo tthree tfour tshared ta tb tc td", 1.0)
    rowids = {} if query is None else dict(kb.postings.top(query, kb.count))
    assert set(rowids) == set(rows), "a passage is in one file and not in the other"
    kb.close()
    return set(rows.values())


def read(folder: Path) -> set[str]:
    """The passages that a search finds, each with its text."""
    kb = KnowledgeBase.open(folder)
    found = {hit.passage.id for hit in kb.search("tone ttwo tthree tfour tshared ta tb tc td", 1_000, max_df=1.0)}
    assert found == set(kb.passage_ids()) == {p.id for p in kb.passages(sorted(found))}
    assert kb.count == len(found)
    kb.close()
    return found


def bring(folder: Path, texts: Mapping[str, str], name: str = "s", words: int = WORDS) -> Indexed:
    documents = [Document(k, f"T{k}", t) for k, t in texts.items()]
    return index_documents(documents, folder, source=name, words=words)


LONG = " ".join(f"word{i}." for i in range(40))
FIRST = {"one": "Ants dig.", "two": LONG, "three": "Bees fly."}


def test_a_source_comes_in_and_the_same_source_again_adds_nothing(tmp_path: Path) -> None:
    path, folder = source(tmp_path / "s.jsonl", FIRST), tmp_path / "kb"
    first = index_source(path, folder, words=WORDS)
    assert first == Indexed(6, 0, 0, 6, first.id)
    assert held(folder) == ids(FIRST)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.idx")}
    assert index_source(path, folder, words=WORDS) == Indexed(0, 0, 6, 6, first.id)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.idx")} == before


def test_a_changed_source_adds_and_removes_exactly_what_changed(tmp_path: Path) -> None:
    path, folder = source(tmp_path / "s.jsonl", FIRST), tmp_path / "kb"
    first = index_source(path, folder, words=WORDS)
    changed = {"two": LONG.replace("word39", "last"), "one": "Ants dig deep.", "four": "Moles too."}
    source(path, changed)
    second = index_source(path, folder, words=WORDS)
    assert second == Indexed(3, 3, 3, 6, second.id)
    assert second.id != first.id
    assert held(folder) == ids(changed)


def test_the_id_is_that_of_the_passages_whatever_the_way_to_them(tmp_path: Path) -> None:
    straight = bring(tmp_path / "a", FIRST)
    bring(tmp_path / "b", {"three": "Bees sting.", "four": "Gone soon."})
    assert bring(tmp_path / "b", dict(reversed(FIRST.items()))).id == straight.id
    assert KnowledgeBase.open(tmp_path / "b").id == straight.id
    assert bring(tmp_path / "b", {"one": "Ants dig."}).id != straight.id
    assert len(straight.id) == 16


def test_two_sources_stand_side_by_side_and_share_what_is_equal(tmp_path: Path) -> None:
    folder = tmp_path / "kb"
    mine = {"one": "Mine.", "shared": "Of both."}
    theirs = {"two": "Theirs.", "shared": "Of both."}
    bring(folder, mine, "mine")
    both = bring(folder, theirs, "theirs")
    assert (both.added, both.unchanged, both.passages) == (1, 1, 3)
    assert held(folder) == ids(mine) | ids(theirs)
    # What one drops stays while the other has it, and goes with the last.
    dropped = bring(folder, {"one": "Mine."}, "mine")
    assert (dropped.removed, dropped.passages) == (0, 3)
    assert held(folder) == ids(mine) | ids(theirs)
    assert bring(folder, {"two": "Theirs."}, "theirs").removed == 1
    assert held(folder) == ids({"one": "Mine.", "two": "Theirs."})


def test_what_the_owner_changes_the_other_source_keeps(tmp_path: Path) -> None:
    folder = tmp_path / "kb"
    bring(folder, {"shared": "Old."}, "mine")
    bring(folder, {"shared": "Old."}, "theirs")
    assert bring(folder, {"shared": "New."}, "mine").removed == 0
    assert held(folder) == ids({"shared": "Old."}) | ids({"shared": "New."})


def test_other_words_a_passage_split_the_source_anew(tmp_path: Path) -> None:
    bring(tmp_path, {"two": LONG}, words=10)
    again = bring(tmp_path, {"two": LONG}, words=20)
    assert (again.added, again.removed) == (2, 4)
    assert held(tmp_path) == ids({"two": LONG}, 20)


texts = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]), st.sampled_from(["Ants.", "Bees.", LONG, LONG.upper()]), min_size=1
)


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=st.lists(st.tuples(st.sampled_from(["x", "y"]), texts), min_size=1, max_size=5))
def test_after_any_runs_the_base_holds_the_last_state_of_each_source(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[str, dict[str, str]]]
) -> None:
    folder = tmp_path_factory.mktemp("kb")
    last: dict[str, dict[str, str]] = {}
    for name, documents in runs:
        before: set[str] = set().union(*(ids(d) for d in last.values()))
        last[name] = documents
        after: set[str] = set().union(*(ids(d) for d in last.values()))
        done = bring(folder, documents, name)
        assert (done.added, done.removed, done.passages) == (len(after - before), len(before - after), len(after))
        assert held(folder) == after


BAD = {
    "not JSON": (b'{"id": "a", "text": "x"}\n{"id": \n', 2),
    "no text for 'b'": (b'{"id": "a", "text": "x"}\n{"id": "b"}\n', 2),
    "not UTF-8": (b'{"id": "a", "text": "x"}\n{"id": "b", "text": "\xe9"}\n', 2),
    "document 'a' comes twice": (
        b'{"id": "a", "text": "x"}\n{"id": "b", "text": "x"}\n{"id": "a", "text": "y"}\n',
        3,
    ),
    "half a character": (b'{"id": "a", "text": "x"}\n{"id": "b", "text": "\\ud800"}\n', 2),
    "holds no rows": (b"", None),
    "holds no document with any text": (b'{"id": "a", "text": " "}\n', None),
}


@pytest.mark.parametrize("says", BAD)
@pytest.mark.parametrize("fresh", [True, False])
def test_a_bad_source_is_named_by_line_and_leaves_the_base_as_it_was(
    tmp_path: Path, says: str, fresh: bool
) -> None:
    folder, path = tmp_path / "kb", tmp_path / "s.jsonl"
    if not fresh:
        index_source(source(path, FIRST), folder, words=WORDS)
    content, line = BAD[says]
    path.write_bytes(content)
    with pytest.raises(BadInput) as raised:
        index_source(path, folder, words=WORDS)
    message = str(raised.value)
    assert says in message
    assert "\n" not in message
    assert message.startswith(f"{path}:{line}: " if line else f"{path}: ")
    if fresh:
        assert not folder.exists()
    else:
        assert held(folder) == ids(FIRST)
        # And nothing is held open: the next run may write.
        assert index_source(source(path, FIRST), folder, words=WORDS).unchanged == 6


def test_a_broken_gzip_far_into_a_source_leaves_the_base_as_it_was(tmp_path: Path) -> None:
    folder, path = tmp_path / "kb", tmp_path / "s.jsonl.gz"
    bring(folder, FIRST)
    rows = "".join(json.dumps({"id": str(i), "text": f"number {i}"}) + "\n" for i in range(5_000))
    path.write_bytes(gzip.compress(rows.encode())[:-200])
    with pytest.raises(BadInput, match=r"s\.jsonl\.gz:\d+: the gzip ends early"):
        index_source(path, folder)
    assert held(folder) == ids(FIRST)


def test_the_same_document_twice_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text('{"id": "one", "title": "Tone", "text": "Ants."}\n' * 3, encoding="utf-8")
    assert index_source(path, tmp_path / "kb").added == 1
    assert index_source(path, tmp_path / "kb").unchanged == 1
    assert held(tmp_path / "kb") == ids({"one": "Ants."})


def test_a_document_that_changed_and_comes_twice_is_refused_too(tmp_path: Path) -> None:
    bring(tmp_path, {"one": "Old."})
    for texts in (["Old.", "New."], ["New.", "Old."], ["New.", "Newer."]):
        with pytest.raises(BadInput, match="'one' comes twice"):
            index_documents([Document("one", "Tone", t) for t in texts], tmp_path, source="s")
    assert held(tmp_path) == ids({"one": "Old."})


def test_the_document_stream_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "BATCH", 10)
    taken = 0

    def stream() -> Iterable[Document]:
        nonlocal taken
        for i in range(100):
            taken += 1
            yield Document(str(i), "T", f"text {i}")

    def advance(_units: int) -> None:
        counts.append(taken)

    class Watched:
        def bar(self, label: str, total: int | None, share: object = None) -> object:
            from contextlib import nullcontext

            return nullcontext(advance)

    counts: list[int] = []
    index_documents(stream(), tmp_path, source="s", progress=Watched())  # type: ignore[arg-type]  # a bar's context
    assert counts == list(range(10, 101, 10))


KILLED = """
import os, sys
from pathlib import Path
from kard.knowledge import indexing
from kard.knowledge.bm25 import PostingsWriter

point, folder = sys.argv[1], Path(sys.argv[2])
committed = PostingsWriter.commit
if point == "while writing":
    leave = indexing.SourceUpdate.remove_missing
    indexing.SourceUpdate.remove_missing = lambda self, *rest: (leave(self, *rest), os._exit(9))
elif point == "between the commits":
    PostingsWriter.commit = lambda self: os._exit(9)
elif point == "after both commits":
    PostingsWriter.commit = lambda self: (committed(self), os._exit(9))
elif point == "before the rewriting":
    indexing.rewrite = lambda *_: os._exit(9)
indexing.index_source(Path(sys.argv[3]), folder, words=10)
"""


@pytest.mark.parametrize("point", ["while writing", "between the commits", "after both commits"])
@pytest.mark.parametrize("fresh", [True, False])
def test_after_a_kill_the_next_run_ends_where_it_should(tmp_path: Path, point: str, fresh: bool) -> None:
    folder, path = tmp_path / "kb", tmp_path / "s.jsonl"
    if not fresh:
        index_source(source(path, FIRST), folder, words=WORDS)
    second = {"one": "Ants dig.", "two": LONG.replace("word3.", "other."), "four": "Moles."}
    source(path, second)
    arguments = [sys.executable, "-c", KILLED, point, str(folder), str(path)]
    assert subprocess.run(arguments, check=False).returncode == 9
    if fresh and point != "after both commits":
        with pytest.raises(Missing, match=r"empty, or being written for the first time.*kard index SOURCE"):
            KnowledgeBase.open(folder)
    else:
        assert read(folder) == ids(second if point == "after both commits" else FIRST)
    done = index_source(path, folder, words=WORDS)
    assert done.id == bring(tmp_path / "straight", second).id
    assert held(folder) == ids(second)


def test_mending_writes_only_what_the_killed_run_brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, path = tmp_path / "kb", tmp_path / "s.jsonl"
    index_source(source(path, FIRST), folder, words=WORDS)
    source(path, {**FIRST, "four": "Moles dig."})
    arguments = [sys.executable, "-c", KILLED, "between the commits", str(folder), str(path)]
    assert subprocess.run(arguments, check=False).returncode == 9
    written: list[int] = []
    add = PostingsWriter.add

    def counting(self: PostingsWriter, rows: Iterable[tuple[int, str, str]]) -> None:
        taken = list(rows)
        written.extend(rowid for rowid, *_ in taken)
        add(self, taken)

    monkeypatch.setattr(PostingsWriter, "add", counting)
    index_source(path, folder, words=WORDS)
    assert written == [7]


@pytest.mark.parametrize("point", ["between the commits", "after both commits", "before the rewriting"])
def test_after_a_kill_nothing_that_was_removed_counts_in_the_scores(tmp_path: Path, point: str) -> None:
    folder, path = tmp_path / "kb", tmp_path / "s.jsonl"
    index_source(source(path, {**FIRST, "ants": "Ants ants ants."}), folder, words=WORDS)
    source(path, FIRST)
    arguments = [sys.executable, "-c", KILLED, point, str(folder), str(path)]
    assert subprocess.run(arguments, check=False).returncode == 9
    index_source(path, folder, words=WORDS)
    bring(tmp_path / "straight", FIRST)
    scores = [
        [hit.bm25 for hit in KnowledgeBase.open(kb).search("ants word3", 9)]
        for kb in (folder, tmp_path / "straight")
    ]
    assert scores[0] == scores[1]


def test_the_file_that_a_killed_writer_was_about_to_rename_goes_with_the_next_run(tmp_path: Path) -> None:
    bring(tmp_path, FIRST)
    left = tmp_path / "tantivy" / ".tmpBq7Zx2"  # as Tantivy names what becomes meta.json
    left.write_text("{")
    bring(tmp_path, FIRST)
    assert not left.exists()
    assert held(tmp_path) == ids(FIRST)


def test_after_a_kill_another_source_mends_the_first_one_s_run_too(tmp_path: Path) -> None:
    folder, path = tmp_path / "kb", source(tmp_path / "s.jsonl", FIRST)
    arguments = [sys.executable, "-c", KILLED, "between the commits", str(folder), str(path)]
    assert subprocess.run(arguments, check=False).returncode == 9
    bring(folder, {"four": "Moles."}, "other")
    assert held(folder) == ids(FIRST) | ids({"four": "Moles."})


def test_lost_postings_are_written_again_from_the_text(tmp_path: Path) -> None:
    first = bring(tmp_path, FIRST)
    for file in (tmp_path / "tantivy").iterdir():
        file.unlink()
    with pytest.raises(Missing, match="kard index --repair"):
        KnowledgeBase.open(tmp_path)
    assert bring(tmp_path, FIRST) == Indexed(0, 0, 6, 6, first.id)
    assert held(tmp_path) == ids(FIRST)


def test_another_language_writes_the_postings_again_and_stays(tmp_path: Path) -> None:
    texts = {"a": "Die Häuser stehen.", "b": "ta tone"}
    english = bring(tmp_path, texts)
    documents = [Document(k, f"T{k}", t) for k, t in texts.items()]
    german = index_documents(documents, tmp_path, source="s", words=WORDS, language="german")
    assert (german.unchanged, german.id != english.id) == (2, True)
    for kb_id in (german.id, bring(tmp_path, texts).id):
        kb = KnowledgeBase.open(tmp_path)
        assert (kb.id, kb.analyser) == (kb_id, "german_stem of title and text")
        assert [h.passage.document for h in kb.search("Haus", 5)] == ["a"]
    assert held(tmp_path) == ids(texts)
    back = index_documents(documents, tmp_path, source="s", words=WORDS, language="english")
    assert back.id == english.id


def test_a_second_writer_is_turned_away(tmp_path: Path) -> None:
    def documents() -> Iterable[Document]:
        yield Document("one", "Tone", "Ants.")
        with pytest.raises(BadInput, match="another `kard index` writes here"):
            bring(tmp_path, {"two": "Bees."}, "other")

    index_documents(documents(), tmp_path, source="s")
    assert held(tmp_path) == ids({"one": "Ants."})


def test_many_small_runs_leave_few_segments(tmp_path: Path) -> None:
    documents: dict[str, str] = {}
    for i in range(12):
        documents[f"d{i}"] = f"Ants tone {i}."
        bring(tmp_path, documents)
        assert Postings(tmp_path / "tantivy").segments <= MAX_SEGMENTS
    kb = KnowledgeBase.open(tmp_path)
    assert {h.passage.id for h in kb.search("ants", 20)} == ids(documents)


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=12))
def test_joining_runs_keeps_few_and_each_no_smaller_than_what_follows(sizes: list[int]) -> None:
    runs = runs_to_keep(sizes)
    assert 1 <= runs < min(len(sizes), MAX_SEGMENTS)
    last = sum(sizes[runs - 1 :])
    assert runs == 1 or sizes[runs - 2] > last


def test_a_changed_base_scores_like_one_that_was_always_so(tmp_path: Path) -> None:
    """Tantivy keeps what was deleted in its statistics, so that common words of the past would stay common."""
    texts = [f"a gate of town {i} is red" for i in range(40)]
    index_documents([Document(f"d{i}", "", text) for i, text in enumerate(texts)], tmp_path / "changed", source="s")
    texts[5:] = [f"town {i} has a bridge" for i in range(5, 40)]
    for folder in ("changed", "new"):
        documents = [Document(f"d{i}", "", text) for i, text in enumerate(texts)]
        index_documents(documents, tmp_path / folder, source="s")
    bases = [KnowledgeBase.open(tmp_path / folder) for folder in ("changed", "new")]
    assert bases[0].id == bases[1].id
    found = [{hit.passage.id: hit.bm25 for hit in kb.search("red gate of town 3", 40)} for kb in bases]
    assert found[0] == found[1]
    assert [kb.postings.segments for kb in bases] == [1, 1]


def test_sources_are_listed_removed_and_read_again_as_they_were_read(tmp_path: Path) -> None:
    folder, facts = tmp_path / "kb", tmp_path / "facts.txt"
    facts.write_text("Ants dig.\nBees fly.\n", encoding="utf-8")
    path = source(tmp_path / "s.jsonl", FIRST)
    index_source(facts, folder, lines=True, name="facts")
    index_source(path, folder, words=WORDS, name="mine")
    listed = [(s.name, s.passages, s.path, s.words, s.lines) for s in list_sources(folder)]
    assert listed == [
        ("facts", 2, str(facts), 100, True),
        ("mine", len(ids(FIRST)), str(path), WORDS, False),
    ]
    facts.write_text("Ants dig.\nBees fly.\nCats purr.\n", encoding="utf-8")
    path.unlink()
    refreshed = [(s.name, indexed and (indexed.added, indexed.removed)) for s, indexed in refresh_sources(folder)]
    assert refreshed == [("facts", (1, 0)), ("mine", None)]
    assert ids(FIRST) < set(KnowledgeBase.open(folder).passage_ids())

    assert remove_source(folder, "facts").removed == 3
    assert set(KnowledgeBase.open(folder).passage_ids()) == ids(FIRST)
    assert [s.name for s in list_sources(folder)] == ["mine"]
    with pytest.raises(BadInput, match="no source 'facts'; there are mine"):
        remove_source(folder, "facts")
    with pytest.raises(BadInput, match="'mine' is the only source"):
        remove_source(folder, "mine")
    with pytest.raises(Missing):
        list_sources(tmp_path / "none")


SECOND = {"one": "Ants dig.", "two": LONG.replace("word3.", "other."), "four": "Moles."}


def test_who_searches_while_somebody_indexes_finds_what_was_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kb"
    before = bring(folder, FIRST)
    states: list[tuple[str, set[str]]] = []

    def look() -> None:
        states.append((KnowledgeBase.open(folder).id, read(folder)))

    def documents() -> Iterable[Document]:
        for key, text in SECOND.items():
            yield Document(key, f"T{key}", text)
            look()  # within the run

    commit, clear = PostingsWriter.commit, passages_db.clear_pending

    def watched_commit(self: PostingsWriter) -> None:
        look()  # after SQLite's commit, before Tantivy's
        commit(self)
        look()

    def watched_clear(db: sqlite3.Connection) -> None:
        clear(db)
        look()

    monkeypatch.setattr(PostingsWriter, "commit", watched_commit)
    monkeypatch.setattr(passages_db, "clear_pending", watched_clear)
    after = index_documents(documents(), folder, source="s", words=WORDS)
    look()
    changes = [state for state, previous in zip(states, [None, *states], strict=False) if state != previous]
    assert changes == [(before.id, ids(FIRST)), (after.id, ids(SECOND))]
    assert len(states) > 6


def test_a_run_that_only_removes_shows_the_old_state_until_tantivy_has_followed(tmp_path: Path) -> None:
    folder, path = tmp_path / "kb", source(tmp_path / "s.jsonl", FIRST)
    index_source(path, folder, words=WORDS)
    source(path, {"one": "Ants dig."})
    arguments = [sys.executable, "-c", KILLED, "between the commits", str(folder), str(path)]
    assert subprocess.run(arguments, check=False).returncode == 9
    assert read(folder) == ids(FIRST)
    index_source(path, folder, words=WORDS)
    assert read(folder) == ids({"one": "Ants dig."})


def damage_postings(folder: Path, how: str) -> None:
    files = sorted(f for f in (folder / "tantivy").iterdir() if f.name[0] != ".")
    for file in files:
        if how == "cut":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        elif how == "flipped":
            file.write_bytes(bytes(b ^ 255 for b in file.read_bytes()))
        elif how == "gone" or file.suffix == ".json":
            file.unlink()
        elif how == "rubbish":
            file.write_bytes(b"rubbish")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result.exit_code, result.output


@pytest.mark.parametrize("how", ["cut", "flipped", "gone", "rubbish", "no meta.json"])
def test_damaged_postings_are_said_in_one_line_and_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "kard.knowledge"
    before = bring(folder, FIRST)
    damage_postings(folder, how)
    code, output = run("search", "ants")
    assert (code, output.count("\n")) == (1, 1), output
    repair = output.rpartition("with: kard ")[2].split()
    assert repair == ["index", "--repair", "--knowledge", "kard.knowledge"]
    code, output = run(*repair)
    assert (code, output) == (0, "6 passages kept, 0 lost; their postings are written again\n")
    assert held(folder) == ids(FIRST)
    assert KnowledgeBase.open(folder).id == before.id


def test_damaged_postings_are_written_again_by_indexing_too(tmp_path: Path) -> None:
    before = bring(tmp_path, FIRST)
    damage_postings(tmp_path, "cut")
    assert bring(tmp_path, FIRST) == Indexed(0, 0, 6, 6, before.id)
    assert held(tmp_path) == ids(FIRST)


def many(count: int = 600) -> dict[str, str]:
    return {f"d{i}": f"tone {i} " + "word " * 60 for i in range(count)}


@pytest.mark.parametrize("share", [0.001, 0.3, 0.6, 0.95])
def test_what_a_cut_file_still_holds_is_kept_and_the_rest_can_be_indexed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.chdir(tmp_path)
    texts, folder = many(), tmp_path / "kard.knowledge"
    path = source(tmp_path / "s.jsonl", texts)
    whole = index_source(path, folder)
    file = folder / "passages.db"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    for wrong in (("search", "tone"), ("index", "s.jsonl")):
        code, output = run(*wrong)
        assert (code, output.count("\n")) == (1, 1), output
        assert "kard index --repair --knowledge kard.knowledge" in output
    code, output = run("index", "--repair")
    if code:
        assert "build it again with: kard index SOURCE" in output
        assert share < 0.1
    else:
        kept = int(output.split()[0])
        assert 0 < kept < 600
        assert f"{kept} passages kept, {600 - kept} lost" in output
        assert f"index these again: {path}" in output
        assert len(held_by(folder)) == kept
        assert held_by(folder) < ids(texts, 100)
    assert (folder / "passages.db.damaged").stat().st_size == int(len(content) * share)
    assert run("index", "s.jsonl")[0] == 0
    assert KnowledgeBase.open(folder).id == whole.id
    assert held_by(folder) == ids(texts, 100)


def held_by(folder: Path) -> set[str]:
    kb = KnowledgeBase.open(folder)
    return {hit.passage.id for hit in kb.search("tone", 1_000)}


def test_a_passage_whose_bytes_changed_is_lost_and_no_other(tmp_path: Path) -> None:
    texts = many(200)
    bring(tmp_path, texts, words=100)
    file = tmp_path / "passages.db"
    content = file.read_bytes()
    assert content.count(b"tone 77 ") == 1
    file.write_bytes(content.replace(b"tone 77 ", b"tone 78 "))
    repaired = repair(tmp_path)
    assert (repaired.passages, repaired.lost, repaired.sources) == (199, 1, ("s",))
    assert held_by(tmp_path) == ids({k: t for k, t in texts.items() if k != "d77"}, 100)
    assert repair(tmp_path).lost == 0


def test_repair_and_source_may_stand_together_and_one_of_them_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source(tmp_path / "s.jsonl", FIRST)
    assert run("index")[0] == 2
    code, output = run("index", "--repair")
    assert (code, "no knowledge base" in output) == (1, True)
    run("index", "s.jsonl", "--words", "10")
    damage_postings(tmp_path / "kard.knowledge", "gone")
    code, output = run("index", "s.jsonl", "--words", "10", "--repair")
    assert code == 0
    assert "6 passages kept" in output
    assert "6 kept; 6 in" in output


def test_nobody_repairs_what_another_one_writes(tmp_path: Path) -> None:
    bring(tmp_path, FIRST)

    def documents() -> Iterable[Document]:
        yield Document("one", "Tone", "Ants.")
        with pytest.raises(BadInput, match="another `kard index` writes here"):
            repair(tmp_path)
        with pytest.raises(BadInput, match="another `kard index` writes here"):
            index_documents([Document("a", "Ta", "b")], tmp_path, source="t", language="german")

    index_documents(documents(), tmp_path, source="s")
    assert held(tmp_path) == ids({"one": "Ants."})


def test_a_repair_is_followed_by_what_was_asked_along_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("index", str(source(tmp_path / "a.jsonl", {"1": "ants"})), "--name", "a")[0] == 0
    assert run("index", str(source(tmp_path / "b.jsonl", {"2": "bees"})), "--name", "b")[0] == 0
    assert run("index", "--repair", "--remove", "a")[0] == 0
    assert [s.name for s in list_sources(Path("kard.knowledge"))] == ["b"]
    source(tmp_path / "b.jsonl", {"2": "bees", "3": "wasps"})
    code, output = run("index", "--repair", "--refresh", "--language", "none")
    assert (code, "b: 1 passage added, 0 removed" in output) == (0, True)


@pytest.mark.parametrize("option", [["--words", "20"], ["--name", "n"], ["--lines"], ["--language", "german"]])
def test_how_a_source_is_read_is_refused_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("index", str(source(tmp_path / "a.jsonl", {"1": "ants"})))[0] == 0
    code, output = run("index", "--refresh", *option)
    assert (code, option[0] in output) == (2, True)
