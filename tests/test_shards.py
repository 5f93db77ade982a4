"""What is written in parts is what one writer writes, whatever is added, changed, removed, killed or lost."""

from __future__ import annotations

import bz2
import gzip
import json
import multiprocessing
import random
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kard.cli import main
from kard.errors import BadInput, WorkersFailed
from kard.knowledge import passages_db, shards
from kard.knowledge.indexing import Indexed, index_documents, index_source
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.knowledge.repair import repair
from kard.knowledge.sources import size
from kard.progress import Share, reading
from kard.records import Document
from kard.work.workers import Shared, Workers, workers

WORDS = ("ants", "bees", "cats", "dogs", "eels", "foxes")
FIXTURE = Path(__file__).with_name("fixtures") / "tiny-wiki.xml"


class Inline:
    """Workers within this process, whose results come in another order than their jobs."""

    count, elsewhere = 2, False

    def __init__(self, lost_at: int = -1) -> None:
        self.jobs = 0
        self._lost_at = lost_at

    def run(
        self, function: Callable[[Any, Any], Any], jobs: Iterable[Any], shared: Path, *, heavy: bool = False
    ) -> Iterator[tuple[Any, Any]]:
        del heavy
        waiting: list[Any] = []
        for job in jobs:
            self.jobs += 1
            if self.jobs == self._lost_at:
                raise WorkersFailed("1 jobs lost their workers")
            waiting.insert(0, job)
            if len(waiting) == 3:
                yield (taken := waiting.pop(1)), function(taken, shared)
        for job in waiting:
            yield job, function(job, shared)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let parts be of thirty passages."""
    monkeypatch.setattr(shards, "LARGEST", 30)


def world(count: int, seed: int = 0) -> list[Document]:
    """Return short documents of few words, so that many scores are equal."""
    rng = random.Random(seed)
    return [Document(f"d{i}", "", " ".join(rng.choices(WORDS, k=rng.randint(1, 4)))) for i in range(count)]


def bring(folder: Path, documents: Iterable[Document], by: Workers | None = None, **more: Any) -> Indexed:
    return index_documents(documents, folder, source="s", workers=by, **more)


def bring_whole(folder: Path, documents: Iterable[Document], **more: Any) -> Indexed:
    """Index by one writer that makes no parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "KNOWN", ())
        return bring(folder, documents, **more)


def found(folder: Path) -> list[list[tuple[str, float]]]:
    """Return what every word finds, cut off among equal scores."""
    kb = KnowledgeBase.open(folder)
    hits = [[(h.passage.id, h.bm25) for h in kb.search(word, 9, max_df=1.0)] for word in (*WORDS, " ".join(WORDS))]
    kb.close()
    return hits


def scores(folder: Path) -> list[list[float]]:
    """Return the scores alone: of segments of several runs, which of equal scores are cut off depends on them."""
    return [[score for _, score in hits] for hits in found(folder)]


def postings(folder: Path) -> dict[str, bytes]:
    """Return the files of the index by their endings; there is one segment."""
    files = [f for f in (folder / "tantivy").iterdir() if f.suffix in (".idx", ".term", ".fieldnorm", ".fast")]
    by_ending = {file.suffix: file.read_bytes() for file in files}
    assert len(by_ending) == len(files) == 4
    return by_ending


def test_parts_become_the_postings_of_one_writer_byte_for_byte(tmp_path: Path, small: None) -> None:
    one = bring_whole(tmp_path / "one", world(260))
    with workers(2, None) as both:
        assert bring(tmp_path / "two", world(260), both) == one
    assert bring(tmp_path / "alone", world(260)) == one
    for folder in ("two", "alone"):
        assert postings(tmp_path / folder) == postings(tmp_path / "one")
        assert found(tmp_path / folder) == found(tmp_path / "one")
        assert sorted(p.name for p in (tmp_path / folder).iterdir()) == ["passages.db", "tantivy"]


@pytest.mark.parametrize("count", [31, 59, 60, 120, 200, 231, 232, 260, 900])
def test_parts_are_enough_for_a_merge_and_each_is_smaller_than_the_one_before(count: int, small: None) -> None:
    parts = list(shards.in_parts((number, "", "") for number in range(count)))
    assert [number for part in parts for number, _, _ in part] == list(range(count))
    sizes = [len(part) for part in parts]
    assert len(sizes) >= shards.FEWEST
    assert all(a > b for a, b in pairwise(sizes[: shards.LARGEST // 2])), sizes


def test_parts_of_the_real_size_become_one_segment(tmp_path: Path) -> None:
    """Half of them are as large as parts can be, the others as small as those of a tail."""
    writer = shards.postings_writer(tmp_path, "english", None)
    writer.add((number, "", "ants") for number in range(2 * shards.LARGEST))
    writer.commit()
    assert writer.shape() == (2 * shards.LARGEST, 1)
    writer.close()


def test_memory_of_indexing_does_not_grow_with_the_passages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "LARGEST", 200)
    monkeypatch.setattr("kard.knowledge.indexing.BATCH", 100)
    identity, peaks = passages_db.identity, list[int]()

    def noted(db: sqlite3.Connection, analyser: str) -> str:
        """Note the peak: this holds ten thousand ids at a time, whatever else does."""
        peaks.append(tracemalloc.get_traced_memory()[1])
        return identity(db, analyser)

    monkeypatch.setattr(passages_db, "identity", noted)

    def index(count: int) -> None:
        tracemalloc.start()
        bring(tmp_path / str(count), (Document(f"d{i}", "", f"ants {i}") for i in range(count)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    parts: list[int] = []
    write = getattr(shards, "_write")  # noqa: B009  # what writes a part

    def noted_part(job: shards.Job, shared: Shared) -> Path:
        parts.append(len(job[2]))
        return write(job, shared)

    monkeypatch.setattr(shards, "_write", noted_part)
    for count in (50, 1000, 1000, 3000, 3000):  # the first for what is loaded once, the second ones change nothing
        index(count)
    (few, _, few_again), (many, _, many_again) = peaks[2:5], peaks[5:]
    assert max(many - few, many_again - few_again) < 40 * 2000  # bytes; a list of the ids takes over 80 each
    assert sum(parts) == 1000 + 3000, (
        "no passage is written but in parts; what has not changed is not written again"
    )
    assert max(parts) <= 200


def test_what_was_there_stays_beside_what_shards_add(tmp_path: Path, small: None) -> None:
    by = Inline()
    later = [Document(f"later {d.key}", "", d.text) for d in world(260)]
    for documents in (world(40, seed=1), later):
        bring_whole(tmp_path / "one", documents, keep_others=True)
        bring(tmp_path / "two", documents, by, keep_others=True)
    assert by.jobs > 8
    assert KnowledgeBase.open(tmp_path / "two").count == 300
    assert scores(tmp_path / "two") == scores(tmp_path / "one")


contents = st.dictionaries(
    st.integers(0, 29), st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join), min_size=1
)


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=st.lists(st.tuples(contents, st.booleans()), min_size=1, max_size=4))
def test_after_any_runs_ids_and_scores_are_those_of_one_process(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    runs: list[tuple[dict[int, str], bool]],
) -> None:
    """Two shards suffice here, so that some bases have several segments, and some are rewritten."""
    monkeypatch.setattr(shards, "LARGEST", 8)
    monkeypatch.setattr(shards, "FEWEST", 1)
    folder = tmp_path_factory.mktemp("kb")
    held: dict[int, str] = {}
    for texts, keep in runs:
        documents = [Document(f"d{n}", "", text) for n, text in texts.items()]
        held = {**held, **texts} if keep else texts
        bring(folder / "kb", documents, Inline(), keep_others=keep)
        straight = folder / f"straight-{len(list(folder.iterdir()))}"
        assert bring_whole(straight, [Document(f"d{n}", "", t) for n, t in held.items()]).id == (
            KnowledgeBase.open(folder / "kb").id
        )
        assert scores(folder / "kb") == scores(straight)


def test_removals_and_repairs_are_written_by_workers_too(tmp_path: Path, small: None) -> None:
    bring_whole(tmp_path / "one", world(300)[20:])
    bring(tmp_path / "two", world(300))
    by = Inline()
    assert bring(tmp_path / "two", world(300)[20:], by).removed == 20
    assert by.jobs > 8
    assert postings(tmp_path / "two")[".idx"] == postings(tmp_path / "one")[".idx"]
    assert found(tmp_path / "two") == found(tmp_path / "one")
    for file in (tmp_path / "two" / "tantivy").iterdir():
        file.unlink()
    by = Inline()
    assert repair(tmp_path / "two", workers=by).passages == 280
    assert by.jobs > 8
    assert found(tmp_path / "two") == found(tmp_path / "one")


def test_an_unknown_version_of_tantivy_gets_its_documents_from_this_process(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "KNOWN", ("99.0",))
    by = Inline()
    bring(tmp_path / "two", world(260), by)
    bring_whole(tmp_path / "one", world(260))
    assert by.jobs == 0
    assert found(tmp_path / "two") == found(tmp_path / "one")


def test_this_version_of_tantivy_is_known() -> None:
    assert shards.version("tantivy") in shards.KNOWN


def test_a_killed_worker_s_part_is_written_again(tmp_path: Path, small: None) -> None:
    killed: list[int] = []

    def documents() -> Iterator[Document]:
        for number, document in enumerate(world(290)):
            if number == 270:
                for process in multiprocessing.active_children():
                    killed.append(process.pid or 0)
                    process.kill()
            yield document

    with workers(2, None) as both, pytest.MonkeyPatch.context() as patch:
        patch.setattr("kard.knowledge.indexing.BATCH", 10)  # else all documents come before the first job
        two = bring(tmp_path / "two", documents(), both)
    assert len(killed) == 2
    assert two == bring_whole(tmp_path / "one", world(290))
    assert postings(tmp_path / "two") == postings(tmp_path / "one")


class OnAnotherMachine(Inline):
    """Workers of a machine that does not see a folder."""

    elsewhere = True

    def __init__(self, hidden: Path) -> None:
        super().__init__()
        self._hidden = hidden

    def run(
        self, function: Callable[[Any, Any], Any], jobs: Iterable[Any], shared: Path, *, heavy: bool = False
    ) -> Iterator[tuple[Any, Any]]:
        def there(job: Any, file: Path) -> Any:
            aside = self._hidden.rename(self._hidden.with_name("aside"))
            try:
                return function(job, file)
            finally:
                aside.rename(self._hidden)

        return super().run(there, jobs, shared, heavy=heavy)


def test_a_machine_that_does_not_see_the_base_or_the_source_is_told_in_one_line(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, texts = tmp_path / "two", tmp_path / "texts"
    place = r"put it where every machine finds it under that path$"
    with pytest.raises(WorkersFailed, match=rf"^the worker on \S+ does not see {folder}/shards; {place}"):
        bring(folder, world(280), OnAnotherMachine(folder))
    assert not folder.exists()
    texts.mkdir()
    (texts / "a.txt").write_text("Ants dig.", encoding="utf-8")
    monkeypatch.chdir(tmp_path)  # a path that was typed is another one for them
    with pytest.raises(WorkersFailed, match=rf"^the worker on \S+ does not see {texts}; {place}"):
        index_source(Path("texts"), folder, workers=OnAnotherMachine(texts), skip_bad=True)


def test_workers_that_are_lost_for_good_leave_the_base_as_it_was(tmp_path: Path, small: None) -> None:
    folder = tmp_path / "two"
    bring(folder, world(20))
    before = found(folder)
    with pytest.raises(WorkersFailed):
        bring(folder, world(280), Inline(lost_at=5))
    assert found(folder) == before
    assert not (folder / "shards").exists()
    assert bring(folder, world(280), Inline()).added == 260
    bring_whole(tmp_path / "one", world(280))
    assert scores(folder) == scores(tmp_path / "one")


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_shards import Inline, bring, world
from kard.knowledge import shards

shards.LARGEST = 30
point, write = sys.argv[1], shards._write_file
if point == "writing":
    work, done = shards._write, []
    shards._write = lambda *job: (done.append(work(*job)), len(done) == 4 and os._exit(9))
elif point == "before the merge":
    commit = shards.PostingsWriter.commit
    shards.PostingsWriter.commit = lambda self: os._exit(9) if self.folder.name == "tantivy" else commit(self)
else:
    at = {"before the files": ".managed.json", "before the step": "meta.json"}[point]
    shards._write_file = lambda file, value: os._exit(9) if file.name == at else write(file, value)
bring(Path(sys.argv[2]), world(280), Inline())
"""


@pytest.mark.parametrize(
    ("point", "fresh"),
    [("writing", False), ("before the files", True), ("before the step", False), ("before the merge", True)],
)
def test_after_a_kill_at_any_moment_the_next_run_ends_where_it_should(
    tmp_path: Path, small: None, point: str, fresh: bool
) -> None:
    folder = tmp_path / "two"
    if not fresh:
        bring(folder, world(20))
    before = None if fresh else found(folder)
    arguments = [sys.executable, "-c", KILLED, point, str(folder), str(Path(__file__).parent)]
    assert subprocess.run(arguments, check=False).returncode == 9
    bring_whole(tmp_path / "one", world(280))
    if not fresh:  # who searches now finds the state before, or the one after
        assert found(folder) in (before, found(tmp_path / "one"))
    assert bring(folder, world(280), Inline()).passages == 280
    assert scores(folder) == scores(tmp_path / "one")
    segments = {file.stem for file in (folder / "tantivy").iterdir() if file.suffix == ".idx"}
    assert len(segments) == KnowledgeBase.open(folder).postings.segments, "files of a killed run are left"
    assert sorted(p.name for p in folder.iterdir() if p.suffix not in (".db-wal", ".db-shm")) == [
        "passages.db",
        "tantivy",
    ]


# Reading by workers


def test_the_command_line_reads_a_dump_and_a_folder_by_two_workers(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(230):  # more than one part
        (texts / f"{number:03}.md").write_text(f"# T{number}\n\nAnts {number} dig.\n", encoding="utf-8")
    for source in (FIXTURE, texts):
        outputs: list[str] = []
        for count in ("1", "2"):
            store = tmp_path / f"{source.stem}-{count}.db"
            arguments = ["index", str(source), "--workers", count, "--store", str(store), "--quiet"]
            result = CliRunner().invoke(main, arguments)
            assert result.exit_code == 0, result.output
            outputs.append(KnowledgeBase.open(store.with_suffix(".knowledge")).id)
        assert outputs[0] == outputs[1]


def test_pages_keep_their_order_whoever_is_ready_first(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(1530):
        (texts / f"{number:04}.txt").write_text(f"Ants {number}.", encoding="utf-8")
    by = Inline()
    index_source(texts, tmp_path / "kb", workers=by)
    assert by.jobs == 8
    kb = KnowledgeBase.open(tmp_path / "kb")
    assert [kb.ids([n])[n] for n in range(1, 1531)] == [
        p.id for n in range(1530) for p in kb.of_documents([f"{n:04}.txt"])
    ]


def test_a_page_that_cannot_be_read_by_a_worker_is_named_in_one_line(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("Ants dig.", encoding="utf-8")
    (texts / "b.txt").write_bytes(b"caf\xe9")
    with workers(2, None) as both, pytest.raises(BadInput, match=r"^[^\n]*b\.txt:1: byte 0xe9 is not UTF-8[^\n]*$"):
        index_source(texts, tmp_path / "kb", workers=both)
    assert not (tmp_path / "kb").exists()


# How far it is


class Watched:
    """Progress that notes the share after each batch."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    @contextmanager
    def bar(self, label: str, total: int | None, share: Share | None = None) -> Generator[Callable[[int], None]]:
        del label, total
        yield lambda _: self.shares.append(share() if share else -1.0)


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "json.bz2", "csv", "parquet", "folder", "dump", "corpus"])
def test_the_share_that_was_read_grows_to_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("kard.knowledge.indexing.BATCH", 500)
    rows: list[Mapping[str, str]] = [
        {"id": str(n), "title": f"T{n}", "text": f"{random.Random(n).random()} ants"} for n in range(3_000)
    ]
    path = tmp_path / f"s.{kind}"
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif kind == "csv":
        path.write_text("id,title,text\n" + "".join(f"{r['id']},{r['title']},{r['text']}\n" for r in rows))
    elif kind == "folder":
        path.mkdir()
        for row in rows[:1_500]:
            (path / f"{row['id']}.txt").write_text(row["text"])
    elif kind == "dump":
        path = tmp_path / "s.xml"
        page = "<page><title>T</title><ns>0</ns><id>{}</id><revision><text>ants {} {}</text></revision></page>"
        pages = "".join(page.format(n, n, "dig " * 400) for n in range(2_000))
        path.write_text(f"<mediawiki>{pages}</mediawiki>")
    elif kind == "corpus":
        path.mkdir()
        (path / "corpus.jsonl").write_bytes(lines)
        (path / "queries.jsonl").write_bytes(lines)
    else:
        path.write_bytes({"jsonl": bytes, "jsonl.gz": gzip.compress, "json.bz2": bz2.compress}[kind](lines))
    watched = Watched()
    index_source(path, tmp_path / "kb", progress=watched)  # type: ignore[arg-type]  # it is asked for bars alone
    assert watched.shares == sorted(watched.shares)
    assert watched.shares[-1] == pytest.approx(1.0, abs=0.02)
    if kind in ("jsonl", "csv", "folder", "dump", "corpus"):
        assert watched.shares[0] < 0.9


def test_nobody_measures_what_is_read_outside_of_a_measurement(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text('{"id": "1", "text": "ants"}\n')
    with reading(size(file)) as share:
        assert share() == 0.0
    index_source(file, tmp_path / "kb")
    assert share() == 0.0
