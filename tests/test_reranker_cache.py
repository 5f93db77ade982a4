"""Vectors on disk: encoded once, shared by processes, whole after a kill, never those of another spec."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kard.encoders import vectors
from kard.encoders.encoder import Encoder
from kard.encoders.vectors import (
    DATA,
    INDEX,
    DiskCache,
    Encodings,
    Vector,
    VectorSpec,
    list_encodings,
    open_encodings,
)
from kard.errors import BadInput
from kard.models import bases
from kard.models.bases import Base
from kard.questions import QuestionSet
from kard.records import Passage
from kard.reranker.model import Reranker
from kard.retrieval.rerank import rerank

SPEC = VectorSpec("a base", "b" * 64, width=4)


def vector(value: float, rows: int | None = None) -> Vector:
    return np.full((4,) if rows is None else (rows, 4), value, dtype=np.float16)


def passage(n: int) -> Passage:
    return Passage.of(f"d{n}", 0, f"Title {n}", f"Text {n}")


def test_what_was_added_is_read_by_another_run(tmp_path: Path) -> None:
    first = Encodings(tmp_path / "e", SPEC)
    assert first.add({"a": vector(1), "b": vector(2)}) == 2
    first.close()
    again = Encodings(tmp_path / "e", SPEC)
    vectors = again.get(["b", "c", "a"])
    assert {i: v.tolist() for i, v in vectors.items()} == {"a": [1.0] * 4, "b": [2.0] * 4}
    assert again.missing(["c", "a", "c", "d"]) == ["c", "d"]
    assert len(again) == 2


def test_vectors_are_read_from_the_file_and_not_into_memory(tmp_path: Path) -> None:
    encodings = Encodings(tmp_path / "e", SPEC)
    encodings.add({"a": vector(1)})
    assert isinstance(encodings.matrix(), np.memmap)
    assert isinstance(encodings.get(["a"])["a"], np.memmap)


def test_a_vector_is_never_written_twice(tmp_path: Path) -> None:
    encodings = Encodings(tmp_path / "e", SPEC)
    encodings.add({"a": vector(1)})
    assert encodings.add({"a": vector(9), "b": vector(2)}) == 1
    assert encodings.get(["a"])["a"].tolist() == [1.0] * 4
    assert encodings.rows == 2


def test_late_interaction_keeps_a_row_for_each_token(tmp_path: Path) -> None:
    encodings = Encodings(tmp_path / "e", replace(SPEC, pooling="maxsim"))
    encodings.add({"a": vector(1, rows=3), "b": vector(2, rows=1), "c": vector(3, rows=2)})
    shapes = {i: v.shape for i, v in encodings.get(["a", "b", "c"]).items()}
    assert shapes == {"a": (3, 4), "b": (1, 4), "c": (2, 4)}
    assert encodings.get(["c"])["c"].tolist() == [[3.0] * 4] * 2


@pytest.mark.parametrize(
    "other",
    [
        {"base_sha256": "c" * 64},
        {"adapter_sha256": "d" * 64},
        {"pooling": "maxsim"},
        {"max_length": 99},
        {"form": "{text}"},
        {"precision": "bfloat16"},
    ],
)
def test_whatever_decides_a_vector_makes_other_encodings(tmp_path: Path, other: dict[str, object]) -> None:
    open_encodings(tmp_path, SPEC).add({"a": vector(1)})
    assert open_encodings(tmp_path, replace(SPEC, **other)).missing(["a"]) == ["a"]  # type: ignore[arg-type]  # fields


def test_the_name_of_a_base_decides_nothing(tmp_path: Path) -> None:
    open_encodings(tmp_path, SPEC).add({"a": vector(1)})
    assert open_encodings(tmp_path, replace(SPEC, base="the same weights in a folder")).missing(["a"]) == []


def test_encodings_lie_within_the_knowledge_base_and_tell_their_size(tmp_path: Path) -> None:
    assert list_encodings(tmp_path) == []
    open_encodings(tmp_path, SPEC).add({"a": vector(1), "b": vector(2)})
    (one,) = list_encodings(tmp_path)
    assert (one.passages, one.spec["base"], one.folder.parent.parent) == (2, "a base", tmp_path)
    assert one.bytes == sum(f.stat().st_size for f in one.folder.iterdir()) > 16


def test_a_base_that_cannot_be_written_keeps_its_vectors_in_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KARD_CACHE", str(tmp_path / "cache"))
    (tmp_path / "kb").write_text("a file: no folder can be made in it")
    encodings = open_encodings(tmp_path / "kb", SPEC)
    encodings.add({"a": vector(1)})
    assert encodings.folder.is_relative_to(tmp_path / "cache")


# --- kills, deletions, other processes ------------------------------------------------------------


def test_rows_that_a_killed_process_left_are_written_over(tmp_path: Path) -> None:
    first = Encodings(tmp_path / "e", SPEC)
    first.add({"a": vector(1)})
    first.close()
    with (tmp_path / "e" / DATA).open("ab") as file:
        file.write(b"\x07" * 13)  # a row and a half that no index names
    again = Encodings(tmp_path / "e", SPEC)
    assert again.rows == 1
    again.add({"b": vector(2)})
    assert {i: v.tolist() for i, v in again.get(["a", "b"]).items()} == {"a": [1.0] * 4, "b": [2.0] * 4}


@pytest.mark.parametrize("lost", [DATA, INDEX])
def test_a_deleted_file_costs_its_vectors_and_nothing_else(tmp_path: Path, lost: str) -> None:
    first = Encodings(tmp_path / "e", SPEC)
    first.add({"a": vector(1), "b": vector(2)})
    first.close()
    (tmp_path / "e" / lost).unlink()
    again = Encodings(tmp_path / "e", SPEC)
    assert again.missing(["a", "b"]) == ["a", "b"]
    again.add({"b": vector(5)})
    assert again.get(["a", "b"])["b"].tolist() == [5.0] * 4


def test_files_that_are_no_encodings_are_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / INDEX).write_bytes(b"this is not a database, whatever its name says" * 50)
    with pytest.raises(BadInput, match="delete the folder and run again"):
        Encodings(tmp_path / "e", SPEC)


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from kard.encoders.vectors import Encodings, VectorSpec
encodings = Encodings(Path(sys.argv[1]), VectorSpec("a base", "b" * 64, width=4))
print("ready", flush=True)
for batch in range(int(sys.argv[2]), int(sys.argv[3])):
    ids = range(10 * batch, 10 * batch + 10)
    encodings.add({f"p{i}": np.full(4, i, dtype=np.float16) for i in ids})
    time.sleep(0.005)
"""


def writer(folder: Path, first: int, last: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", WRITER, str(folder), str(first), str(last)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def intact(encodings: Encodings) -> int:
    """Every vector that is there is its passage's own; their number."""
    ids = [name for name, _ in encodings.first_rows()]
    for name, vector in encodings.get(ids).items():
        assert vector.tolist() == [float(name[1:])] * 4
    assert encodings.rows == len(ids)
    return len(ids)


def test_two_processes_add_at_once_and_every_vector_is_its_passages_own(tmp_path: Path) -> None:
    both = [writer(tmp_path / "e", 0, 12), writer(tmp_path / "e", 8, 20)]  # they meet in the middle
    for process in both:
        process.communicate(timeout=60)
    assert [process.returncode for process in both] == [0, 0]
    assert intact(Encodings(tmp_path / "e", SPEC)) == 200


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_kill_leaves_whole_batches(tmp_path: Path) -> None:
    process = writer(tmp_path / "e", 0, 100_000)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    encodings = Encodings(tmp_path / "e", SPEC)
    while len(encodings) < 20:
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    count = intact(Encodings(tmp_path / "e", SPEC))
    assert count >= 20
    assert count % 10 == 0


# --- filling --------------------------------------------------------------------------------------


class Reader:
    """Encodes a passage as its number, and counts what it was asked for."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        return [p for p in map(passage, range(50)) if p.id in set(ids)]

    def encode(self, passages: Sequence[Passage]) -> list[Vector]:
        self.read.extend(p.id for p in passages)
        return [vector(float(p.document[1:])) for p in passages]


@settings(max_examples=15, deadline=None)
@given(lists=st.lists(st.lists(st.integers(0, 49), max_size=60), min_size=1, max_size=4), size=st.integers(1, 20))
def test_each_passage_is_encoded_once_however_it_is_asked_for(
    tmp_path_factory: pytest.TempPathFactory, lists: list[list[int]], size: int
) -> None:
    encodings, reader = Encodings(tmp_path_factory.mktemp("e"), SPEC), Reader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kard.encoders.vectors.BATCH", size)
        for numbers in lists:
            encodings.fill([passage(n).id for n in numbers], reader.passages, reader.encode)
    distinct = {n for numbers in lists for n in numbers}
    assert sorted(reader.read) == sorted(passage(n).id for n in distinct)
    vectors = encodings.get([passage(n).id for n in distinct])
    assert {n: vectors[passage(n).id].tolist() for n in distinct} == {n: [float(n)] * 4 for n in distinct}


def test_a_stopped_filling_loses_a_few_hundred_passages_at_most(tmp_path: Path) -> None:
    ids = [passage(n).id for n in range(900)]
    encoded: list[int] = []

    def encode(passages: Sequence[Passage]) -> list[Vector]:
        if len(encoded) == 3:
            raise KeyboardInterrupt
        encoded.append(len(passages))
        return [vector(1.0) for _ in passages]

    encodings = Encodings(tmp_path / "e", SPEC)
    with pytest.raises(KeyboardInterrupt):
        encodings.fill(ids, lambda batch: [p for p in map(passage, range(900)) if p.id in set(batch)], encode)
    assert len(encodings) == sum(encoded) == 3 * vectors.BATCH
    assert vectors.BATCH <= 256


def test_a_full_disk_ends_the_filling_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encodings, reader = Encodings(tmp_path / "e", SPEC), Reader()
    monkeypatch.setattr(vectors, "KEEP_FREE", 1 << 62)
    assert encodings.fill([passage(1).id], reader.passages, reader.encode) == 0
    assert encodings.missing([passage(1).id]) == [passage(1).id]


def test_the_disk_answers_for_what_was_announced_and_memory_for_the_rest(tmp_path: Path) -> None:
    encodings = Encodings(tmp_path / "e", SPEC)
    encodings.add({"id1": vector(1)})
    cache = DiskCache(encodings)
    cache.put("text 2", vector(2))
    cache.announce({"text 1": "id1", "text 3": "id3"})
    vectors = {key: cache.get(key) for key in ("text 1", "text 2", "text 3")}
    assert {key: None if v is None else v[0] for key, v in vectors.items()} == {
        "text 1": 1.0,
        "text 2": 2.0,
        "text 3": None,
    }
    cache.announce({})
    assert cache.get("text 1") is None


# --- ranking --------------------------------------------------------------------------------------


class Counted(Encoder):
    """An encoder that writes down which texts it read."""

    seen: ClassVar[list[str]] = []

    def pooled(self, texts: Sequence[str], **more: Any) -> torch.Tensor:
        self.seen.extend(texts)
        return super().pooled(texts, **more)

    def token_vectors(self, texts: Sequence[str], **more: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self.seen.extend(texts)
        return super().token_vectors(texts, **more)


@pytest.fixture
def base(tmp_path: Path, write_encoder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Base:
    monkeypatch.setenv("KARD_CACHE", str(tmp_path / "cache"))
    return bases.resolve(
        str(write_encoder(tmp_path / "bert", words=["is", "so", "text", "of", "title", "d1", "d2"]))
    )


@pytest.mark.parametrize("scorer", ["pooled", "maxsim"])
def test_ranking_reads_each_passage_once_for_all_runs_and_scores_as_without_a_disk(
    case: Any, base: Base, tmp_path: Path, scorer: Any
) -> None:
    one, two = case.question("q1"), case.question("q2")
    case.hits(one, "d1-0", "d2-0", "d3-0")
    case.hits(two, "d2-0", "d3-0", "d4-1")

    def run(knowledge: Path | None) -> tuple[list[tuple[str, float]], list[str]]:
        case.write("delete from rerank_scores")
        Counted.seen.clear()
        model = Reranker(Counted.of(base, max_length=30), scorer)
        assert rerank(case.db, model, case.RERANKER, case.INDEX, QuestionSet("tiny"), knowledge=knowledge) == 2
        query = "select passage_id, score from rerank_scores order by retrieval_id, passage_id"
        return case.db.execute(query).fetchall(), list(Counted.seen)

    plain, _ = run(None)
    first, read = run(tmp_path / "kb")
    again, asked = run(tmp_path / "kb")
    assert sorted(read) == sorted({*read})
    assert sum(text.startswith("Title of") for text in read) == 4
    assert sorted(asked) == ["Is q1 so?", "Is q2 so?"]
    assert first == again
    assert [i for i, _ in first] == [i for i, _ in plain]
    assert [s for _, s in first] == pytest.approx([s for _, s in plain], abs=1e-3)
    (stored,) = list_encodings(tmp_path / "kb")
    assert (stored.passages, stored.spec["pooling"], stored.spec["adapter_sha256"]) == (4, scorer, "-")
