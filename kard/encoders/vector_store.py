"""Passages' vectors on disk, beside their knowledge base: worked out once, then read by every run.

A vector is known by the hash of all that decides it, so it is never stale: another adapter or another text is
another key. The folder holds nothing that cannot be made again and may be deleted whenever no run uses it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from kard.db import batches, marks
from kard.errors import BadInput
from kard.models.bases import cache_folder
from kard.records import digest

Vector = NDArray[np.float16]
"""(H,) for a pooled passage, (T tokens, H) for late interaction; rounding costs 1e-4 of a cosine."""

NAME = "encodings"  # the folder within a knowledge base
INDEX, DATA = "index.db", "vectors.f16"
FORM = "1"  # of the files and of what is encoded; another form makes other keys
BUSY_SECONDS = 60.0  # how long a process waits for another one's batch
KEEP_FREE = 2 << 30  # bytes of disk that are left to others

# `start` and `length` count rows of the data file: a pooled passage has one, late interaction one a token.
TABLES = """
create table if not exists maker (key text primary key, value text not null) without rowid;
create table if not exists vectors (
    passage text primary key, start integer not null, length integer not null
) without rowid;
create table if not exists committed (rows integer not null);
"""


@dataclass(frozen=True, slots=True)
class VectorSpec:
    """All that decides a passage's vector but the passage. `base` is how people call it and decides nothing."""

    base: str
    base_sha256: str
    adapter_sha256: str = ""  # '' for the encoder as it is
    pooling: str = "pooled"  # a scorer with vectors, or how a named encoder is read
    max_length: int = 256  # tokens, after which a passage is cut
    form: str = "{title}. {text}"  # what is read of a passage
    precision: str = "float32"  # of the computation; what is kept has half
    width: int = 0

    @property
    def id(self) -> str:
        """The hash of what decides: the name of the folder."""
        decides = [str(getattr(self, f.name)) for f in fields(self) if f.name != "base"]
        return digest(FORM, *decides)


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """What one folder of encodings holds."""

    folder: Path
    maker: Mapping[str, str]  # the fields of `VectorSpec` as text
    passages: int
    bytes: int  # on disk


def folder_of(knowledge: Path) -> Path:
    """Where the encodings of a knowledge base lie: within it, or in the cache folder when it cannot be written."""
    folder = knowledge / NAME
    try:
        folder.mkdir(exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    return folder if writable else cache_folder() / NAME


def beside(knowledge: Path, maker: VectorSpec) -> Encodings:
    """The encodings of a knowledge base's passages by this maker. Raises BadInput when they are broken."""
    return Encodings(folder_of(knowledge) / maker.id, maker)


def kept(knowledge: Path) -> list[StoredVectors]:
    """Every folder with encodings of a knowledge base, the largest first; a broken one has no maker."""
    found: list[StoredVectors] = []
    for folder in folder_of(knowledge).glob("*"):
        maker: dict[str, str] = {}
        passages = 0
        try:
            db = sqlite3.connect(f"{(folder / INDEX).resolve().as_uri()}?mode=ro", uri=True)
            with closing(db):
                maker = dict(db.execute("select key, value from maker").fetchall())
                (passages,) = db.execute("select count(*) from vectors").fetchone()
        except sqlite3.Error:
            passages = 0
        if maker and not passages:
            continue
        size = sum(file.stat().st_size for file in folder.glob("*") if file.is_file())
        found.append(StoredVectors(folder, maker, int(passages), size))
    return sorted(found, key=lambda k: (-k.bytes, k.folder.name))


class Encodings:
    """Vectors of one maker: `vectors.f16`, rows of half precision, and `index.db`, where each passage's stand.

    Any number of processes may read and add at once. Rows count from the moment that the index names them: what a
    killed process left behind them is written over. Raises BadInput when the files are no such thing.
    """

    def __init__(self, folder: Path, maker: VectorSpec) -> None:
        self.folder = folder
        self.maker = maker
        self._row = 2 * maker.width  # bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._data = folder / DATA
        try:
            self._db = sqlite3.connect(folder / INDEX, timeout=BUSY_SECONDS, isolation_level=None)
            self._data.touch()
        except (sqlite3.Error, OSError) as error:
            raise self._broken(error) from error
        self.close = finalize(self, self._db.close)  # called or not: nobody has to remember
        self._map: Vector = np.zeros((0, maker.width), dtype=np.float16)
        if self._whole():
            return
        with self._writing():
            for statement in TABLES.split(";\n"):
                self._db.execute(statement)
            for field in fields(maker):
                values = (field.name, str(getattr(maker, field.name)))
                self._db.execute("insert or replace into maker values (?, ?)", values)
            if not self._whole():  # the data were deleted, or cut
                self._db.execute("delete from vectors")
                self._db.execute("delete from committed")

    @property
    def rows(self) -> int:
        """Rows that the index answers for."""
        return int(self._db.execute("select coalesce(max(rows), 0) from committed").fetchone()[0])

    def __len__(self) -> int:
        return int(self._db.execute("select count(*) from vectors").fetchone()[0])

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of the passages that have no vector yet, once each, in their order."""
        known = self._places(ids)
        return [i for i in dict.fromkeys(ids) if i not in known]

    def has_room(self, nbytes: int) -> bool:
        """Whether the disk takes so many bytes more and keeps what others need."""
        return shutil.disk_usage(self.folder).free >= KEEP_FREE + nbytes

    def add(self, vectors: Mapping[str, Vector]) -> int:
        """Keep the vectors by passage id, all or none; the number that were new."""
        with self._writing():
            new = self.missing(list(vectors))
            start = self.rows
            places: list[tuple[str, int, int]] = []
            with self._data.open("r+b") as file:
                file.seek(start * self._row)
                for passage in new:
                    rows = np.ascontiguousarray(vectors[passage], dtype="<f2").reshape(-1, self.maker.width)
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
        """The vectors of those passages that have one, memory-mapped: read when they are used."""
        places = self._places(ids)
        rows = self.matrix() if places else self._map
        pooled = self.maker.pooling != "maxsim"
        return {i: rows[start] if pooled else rows[start : start + n] for i, (start, n) in places.items()}

    def all(self) -> list[tuple[str, int]]:
        """Every passage with its first row."""
        return self._db.execute("select passage, start from vectors").fetchall()

    def matrix(self) -> Vector:
        """Every row, (rows, H), memory-mapped."""
        rows = self.rows
        if rows > len(self._map):
            shape = (rows, self.maker.width)
            self._map = np.memmap(self._data, dtype="<f2", mode="r", shape=shape)
        return self._map

    def _places(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        for some in batches(list(dict.fromkeys(ids))):
            query = f"select passage, start, length from vectors where passage in ({marks(some)})"
            found.update((i, (start, length)) for i, start, length in self._db.execute(query, some))
        return found

    def _whole(self) -> bool:
        """Whether the tables are there and the data file holds every row that they name."""
        try:
            made = self._db.execute("select count(*) from sqlite_master where name = 'committed'").fetchone()[0]
            return bool(made) and self._data.stat().st_size >= self.rows * self._row
        except (sqlite3.Error, OSError) as error:
            raise self._broken(error) from error

    @contextmanager
    def _writing(self) -> Generator[None]:
        """SQLite's lock also keeps the data file to one writer."""
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
