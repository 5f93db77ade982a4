"""Vectors of passages: on disk beside their knowledge base, and in memory while they are likely to be needed.

Vectors are computed once and then read by every run. They lie in a folder that is named by the hash of all that
decides them, so that they are never stale: another adapter or another text has another folder. Everything in the
folder can be computed again, and the folder may be deleted whenever no run uses it.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from kard.errors import BadInput
from kard.models.bases import cache_folder
from kard.progress import SILENT, Progress
from kard.records import Passage, digest

Vector = NDArray[np.float16]
"""(H,) for a pooled passage, (T tokens, H) for late interaction; rounding costs 1e-4 of a cosine."""
ReadPassages = Callable[[Sequence[str]], Iterable[Passage]]
"""From ids of passages to the passages, in any order."""
EncodePassages = Callable[[Sequence[Passage]], Sequence[Vector]]

NAME = "encodings"  # the folder within a knowledge base
INDEX, DATA = "index.db", "vectors.f16"
FORMAT = "1"  # of the files; another format makes other ids
BUSY_SECONDS = 60.0  # how long a process waits for another one's batch
KEEP_FREE = 2 << 30  # bytes of disk that are left to others
BATCH = 256  # passages a commit: some ten seconds of a busy core that a kill loses, and a step of the progress
VECTOR_SCORERS = ("pooled", "maxsim")  # scorers that read a passage without its question
TITLE_AND_TEXT = "{title}. {text}"

# `start` and `length` count rows of the data file: a pooled passage has one, late interaction one a token.
TABLES = (
    "create table if not exists maker (key text primary key, value text not null) without rowid",
    "create table if not exists vectors (passage text primary key, start integer not null, length integer not null)"
    " without rowid",
    "create table if not exists committed (rows integer not null)",
)


def passage_text(passage: Passage, form: str = TITLE_AND_TEXT) -> str:
    """Return the text that an encoder reads of a passage: its title and text, never an id or a source's name.

    Without a title, what stands before the title in `form` is followed by the text.
    """
    before, _, rest = form.partition("{title}")
    between, _, after = rest.partition("{text}")
    title = f"{passage.title}{between}" if passage.title else ""
    return f"{before}{title}{passage.text}{after}"


@dataclass(frozen=True, slots=True)
class VectorSpec:
    """All that decides a passage's vector, except the passage. `base` is a name for people and decides nothing."""

    base: str
    base_sha256: str
    adapter_sha256: str = ""  # '' for the encoder without an adapter
    pooling: str = "pooled"  # as in `Encoder.vectors`
    max_length: int = 256  # tokens, after which a passage is cut
    form: str = TITLE_AND_TEXT  # how a passage is written for the encoder
    precision: str = "float32"  # of the computation; vectors are stored in half precision
    width: int = 0

    @property
    def id(self) -> str:
        """The hash of all that decides; the name of the folder."""
        decides = [str(getattr(self, f.name)) for f in fields(self) if f.name != "base"]
        return digest(FORMAT, *decides)


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """What one folder of encodings holds."""

    folder: Path
    spec: Mapping[str, str]  # the fields of `VectorSpec` as text; {} for a broken folder
    passages: int
    bytes: int  # on disk


def batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the ids in the parts that are encoded together: the order within one may move a vector's last bit."""
    return (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))


def encodings_folder(knowledge: Path) -> Path:
    """Return the folder for a knowledge base's encodings: within it, or in the cache if that cannot be written."""
    folder = knowledge / NAME
    try:
        folder.mkdir(exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    return folder if writable else cache_folder() / NAME


def open_encodings(knowledge: Path, spec: VectorSpec) -> Encodings:
    """Open the encodings of a knowledge base's passages by this spec. Raises BadInput when they are broken."""
    return Encodings(encodings_folder(knowledge) / spec.id, spec)


def list_encodings(knowledge: Path) -> list[StoredVectors]:
    """Return every folder of encodings of a knowledge base, the largest first."""
    stored: list[StoredVectors] = []
    for folder in encodings_folder(knowledge).glob("*"):
        spec: dict[str, str] = {}
        passages = 0
        try:
            db = sqlite3.connect(f"{(folder / INDEX).resolve().as_uri()}?mode=ro", uri=True)
            with closing(db):
                spec = dict(db.execute("select key, value from maker").fetchall())
                (passages,) = db.execute("select count(*) from vectors").fetchone()
        except sqlite3.Error:
            passages = 0
        if spec and not passages:
            continue
        size = sum(file.stat().st_size for file in folder.glob("*") if file.is_file())
        stored.append(StoredVectors(folder, spec, int(passages), size))
    return sorted(stored, key=lambda s: (-s.bytes, s.folder.name))


class Encodings:
    """The vectors of one spec in a folder: `vectors.f16` holds rows of half precision, `index.db` their passages.

    Any number of processes may read and add at once. A row counts once the index names it; rows that a killed
    process left behind are written over. Raises BadInput when the files cannot be used.
    """

    def __init__(self, folder: Path, spec: VectorSpec) -> None:
        self.folder = folder
        self.spec = spec
        self._row_bytes = 2 * spec.width
        folder.mkdir(parents=True, exist_ok=True)
        self._data = folder / DATA
        try:
            # Threads may use it in turn: whoever shares it has a lock.
            self._db = sqlite3.connect(
                folder / INDEX, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._data.touch()
        except (sqlite3.Error, OSError) as error:
            raise self._broken(error) from error
        self.close = finalize(self, self._db.close)  # also runs when nobody calls it
        self._map: Vector = np.zeros((0, spec.width), dtype=np.float16)
        if self._is_complete():
            return
        with self._writing():
            for statement in TABLES:
                self._db.execute(statement)
            for field in fields(spec):
                values = (field.name, str(getattr(spec, field.name)))
                self._db.execute("insert or replace into maker values (?, ?)", values)
            if not self._is_complete():  # the data were deleted, or cut
                self._db.execute("delete from vectors")
                self._db.execute("delete from committed")

    @property
    def rows(self) -> int:
        """The number of rows that the index answers for."""
        return int(self._db.execute("select coalesce(max(rows), 0) from committed").fetchone()[0])

    def __len__(self) -> int:
        return int(self._db.execute("select count(*) from vectors").fetchone()[0])

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Return the passages that have no vector yet, once each, in their order."""
        stored = self._places(ids)
        return [i for i in dict.fromkeys(ids) if i not in stored]

    def has_room(self, nbytes: int) -> bool:
        """Whether the disk has room for so many bytes, besides what is left to others."""
        return shutil.disk_usage(self.folder).free >= KEEP_FREE + nbytes

    def fill(
        self,
        ids: Sequence[str],
        read: ReadPassages,
        encode: EncodePassages,
        *,
        progress: Progress = SILENT,
    ) -> int:
        """Encode the passages that have no vector yet, a batch a commit; return how many were added.

        Stops early when the disk is full. Passages without a vector are encoded when they are asked for.
        """
        missing = self.missing(ids)

        def encoded(batch: Sequence[str]) -> dict[str, Vector]:
            passages = list(read(batch))
            return {p.id: v for p, v in zip(passages, encode(passages), strict=True)}

        return self.store(map(encoded, batches(missing)), len(missing), progress)

    def store(self, encoded: Iterable[Mapping[str, Vector]], total: int, progress: Progress) -> int:
        """Store vectors of `total` passages as they come, a batch a commit; return how many were new.

        Stops early when the disk is full.
        """
        added = 0
        with progress.bar("encode passages", total) as advance:
            for vectors in encoded:
                if not self.has_room(sum(v.nbytes for v in vectors.values())):
                    break
                added += self.add(vectors)
                advance(len(vectors))
        return added

    def add(self, vectors: Mapping[str, Vector]) -> int:
        """Store the vectors by passage id, all or none; return the number that were new."""
        with self._writing():
            new = self.missing(list(vectors))
            start = self.rows
            places: list[tuple[str, int, int]] = []
            with self._data.open("r+b") as file:
                file.seek(start * self._row_bytes)
                for passage in new:
                    rows = np.ascontiguousarray(vectors[passage], dtype="<f2").reshape(-1, self.spec.width)
                    file.write(rows.tobytes())
                    places.append((passage, start, len(rows)))
                    start += len(rows)
                file.flush()
                os.fsync(file.fileno())  # before the index names them: a power cut leaves no row without data
            self._db.executemany("insert into vectors values (?, ?, ?)", places)
            self._db.execute("delete from committed")
            self._db.execute("insert into committed values (?)", (start,))
        return len(new)

    def get(self, ids: Sequence[str]) -> dict[str, Vector]:
        """Return the stored vectors of these passages by id. They are memory-mapped: read when they are used."""
        places = self._places(ids)
        rows = self.matrix() if places else self._map
        pooled = self.spec.pooling != "maxsim"
        return {i: rows[start] if pooled else rows[start : start + n] for i, (start, n) in places.items()}

    def first_rows(self) -> list[tuple[str, int]]:
        """Return every passage with its first row."""
        return self._db.execute("select passage, start from vectors").fetchall()

    def matrix(self) -> Vector:
        """Return every row, (rows, H), memory-mapped."""
        rows = self.rows
        if rows > len(self._map):
            shape = (rows, self.spec.width)
            self._map = np.memmap(self._data, dtype="<f2", mode="r", shape=shape)
        return self._map

    def _places(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return first row and number of rows of the passages that have a vector."""
        query = "select passage, start, length from vectors where passage in (select value from json_each(?))"
        places = self._db.execute(query, [json.dumps(list(dict.fromkeys(ids)))])
        return {passage: (start, length) for passage, start, length in places}

    def _is_complete(self) -> bool:
        """Whether the tables are there and the data file holds every row that they name."""
        try:
            tables = self._db.execute("select count(*) from sqlite_master where name = 'committed'").fetchone()[0]
            return bool(tables) and self._data.stat().st_size >= self.rows * self._row_bytes
        except (sqlite3.Error, OSError) as error:
            raise self._broken(error) from error

    @contextmanager
    def _writing(self) -> Generator[None]:
        """Hold SQLite's write lock, which also keeps the data file to one writer."""
        try:
            self._db.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")
        except (sqlite3.Error, OSError) as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> BadInput:
        return BadInput(
            f"cannot use these encodings ({error}); delete the folder and run again", at=str(self.folder)
        )


class VectorCache:
    """Vectors in memory by the text of their passage. Beyond `limit` bytes the least recently used are dropped."""

    def __init__(self, limit: int = 256 << 20) -> None:
        self.limit = limit
        self.size = 0  # bytes held
        self._vectors: OrderedDict[str, Vector] = OrderedDict()

    def get(self, text: str) -> Vector | None:
        """Return the vector of a text, None when it is not held. It becomes the most recently used."""
        vector = self._vectors.get(text)
        if vector is not None:
            self._vectors.move_to_end(text)
        return vector

    def put(self, text: str, vector: Vector) -> None:
        """Hold the vector, dropping older ones if need be."""
        replaced = self._vectors.pop(text, None)
        if replaced is not None:
            self.size -= replaced.nbytes
        self._vectors[text] = vector
        self.size += vector.nbytes
        while self.size > self.limit:
            _, dropped = self._vectors.popitem(last=False)
            self.size -= dropped.nbytes


class DiskCache(VectorCache):
    """A cache that first looks among the vectors on disk, for the passages that were announced."""

    def __init__(self, encodings: Encodings) -> None:
        super().__init__()
        self._encodings = encodings
        self._announced: dict[str, Vector] = {}

    def announce(self, passages: Mapping[str, str]) -> None:
        """Look up the passages of the next questions, ids by text. They replace those announced before."""
        vectors = self._encodings.get(list(passages.values()))
        self._announced = {text: vectors[i] for text, i in passages.items() if i in vectors}

    def get(self, text: str) -> Vector | None:
        """Return the vector on disk, or else in memory, or else None."""
        vector = self._announced.get(text)
        return super().get(text) if vector is None else vector
