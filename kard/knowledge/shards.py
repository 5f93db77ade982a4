"""Postings that are written in parts, by workers beside each other or by this process, and joined to one index.

A part is written in a folder of its own, as an index that knows nothing of the others: memory holds the postings of
one part. The folder is within the knowledge base, which a worker on another machine must see under the same path.
The segments of all are then named in one `meta.json`, and Tantivy merges them into the segment that one writer
would have written, the same byte for byte: statistics are those of the whole, and so are ids and scores. How
Tantivy keeps its files is its own affair, so that this is done for the versions alone that the tests have seen.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from itertools import chain, islice, repeat, takewhile
from pathlib import Path
from typing import Any

from kard.files import atomic
from kard.knowledge.bm25 import PostingsWriter, Row, alone
from kard.work.workers import NOTHING, Shared, Workers, require_seen

NAME = "shards"  # the folder within a knowledge base, while they are written
KNOWN = ("0.27.0",)  # versions of tantivy
META, MANAGED = "meta.json", ".managed.json"
# Tantivy merges eight segments or more of about one size: within a factor of 1.68, where those of less than 10,000
# passages count as of so many. Each is smaller than the one before it, since it sorts them by size: so the first
# passages stay the first, and equal scores are cut off where they would be in one segment. (That ends with 96
# million passages.)
LARGEST = 16_000
FEWEST = 8
Job = tuple[Path, str, list[Row]]
"""A part's folder, its language, and its passages."""


def postings_writer(folder: Path, language: str, workers: Workers | None, *, empty: bool = False) -> PostingsWriter:
    """Open the postings in a folder for writing by these workers, or by this process if there are none."""
    if version("tantivy") not in KNOWN:
        return PostingsWriter(folder, language, empty=empty)
    return ShardedPostings(folder, language, workers, empty=empty)


class ShardedPostings(PostingsWriter):
    """Writer of postings whose additions are written in parts, if they are many and come with no deletion."""

    def __init__(self, folder: Path, language: str, workers: Workers | None, *, empty: bool = False) -> None:
        super().__init__(folder, language, empty=empty)
        self._place = (folder.parent / NAME).resolve()
        self._workers = workers
        self._shards: list[Path] = []
        self._replaced = False  # all passages are to go when the first come
        self._alone = False  # this process has written something since the last commit
        shutil.rmtree(self._place, ignore_errors=True)  # of a run that was killed

    def add(self, rows: Iterable[Row]) -> None:
        """Add passages; more than one part's are read before the first is written."""
        rows = iter(rows)
        if not (self._alone or self._shards):
            held = list(islice(rows, LARGEST + 1))
            self._alone = len(held) <= LARGEST
            rows = chain(held, rows)
            del held  # the chain forgets it when it has been read
        if self._alone:
            if self._replaced:
                super().delete_from(0)
                self._replaced = False
            super().add(rows)
            return
        self._place.mkdir(exist_ok=True)
        parts = enumerate(in_parts(rows), len(self._shards))
        jobs = ((self._place / str(number), self.language, part) for number, part in parts)
        if self._workers is None:
            self._shards.extend(_one_ahead(jobs))
        else:
            self._shards.extend(shard for _, shard in self._workers.run(_write, jobs, NOTHING))

    def delete(self, rowids: Iterable[int]) -> None:
        """Delete passages; rowids that the index lacks are no error."""
        rowids = list(rowids)
        self._alone = self._alone or bool(rowids)
        super().delete(rowids)

    def delete_from(self, rowid: int) -> None:
        """Delete every passage whose rowid is this or higher."""
        self._replaced = rowid == 0
        if rowid:
            self._alone = True
            super().delete_from(rowid)

    def commit(self) -> None:
        """Make everything since the last commit visible and durable, at once."""
        if self._shards:
            self.close()
            with alone(self.folder):
                join(self.folder, sorted(self._shards, key=lambda shard: int(shard.name)), replace=self._replaced)
            self._reopen()
        super().commit()
        if self._shards:  # with that commit, Tantivy has begun to merge them
            self.close()
            self._reopen()
        self._forget()

    def rollback(self) -> None:
        """Forget everything since the last commit."""
        super().rollback()
        self._forget()

    def _reopen(self) -> None:
        """Open the index again. Raises BadInput if another process has begun to write here."""
        try:
            self.open()
        except ValueError:
            with alone(self.folder):
                raise

    def _forget(self) -> None:
        self._shards, self._replaced, self._alone = [], False, False
        shutil.rmtree(self._place, ignore_errors=True)


def join(folder: Path, shards: Sequence[Path], *, replace: bool) -> None:
    """Name the shards' segments in the index of this folder, beside its own or in their place; nobody may write it.

    The files come first, listed so that a writer removes them if they get no further. Then one step names them.
    """
    meta, managed = _read(folder / META), _read(folder / MANAGED)
    others = [_read(shard / META) for shard in shards]
    files = [file for shard in shards for file in shard.iterdir() if file.suffix not in (".json", ".lock")]
    _write_file(folder / MANAGED, [*managed, *(file.name for file in files)])
    for file in files:
        file.rename(folder / file.name)
    _sync(folder)
    segments = [segment for other in others for segment in other["segments"]]
    meta["segments"] = segments if replace else [*meta["segments"], *segments]
    meta["opstamp"] = max(meta["opstamp"], *(other["opstamp"] for other in others))
    _write_file(folder / META, meta)
    _sync(folder)


def in_parts(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Yield the rows, which are more than `LARGEST`, in parts that become smaller and are enough for a merge."""
    sizes = chain(range(LARGEST, LARGEST // 2, -1), repeat(LARGEST // 2))
    parts = takewhile(bool, (list(islice(rows, size)) for size in sizes))
    held = list(islice(parts, 2))
    lacking = FEWEST
    for part in parts:
        yield held[0]
        held = [held[1], part]
        lacking -= 1
    if lacking <= len(held):
        yield from held
        return
    last = chain(*held)
    left = sum(map(len, held))
    for pieces in range(lacking, 0, -1):  # the smallest difference that lets each be smaller than the one before
        size = -(-(left + pieces * (pieces - 1) // 2) // pieces)
        yield list(islice(last, size))
        left -= size


def _one_ahead(jobs: Iterable[Job]) -> Iterator[Path]:
    """Write parts in a thread, each while the next one is read; yield their folders."""
    with ThreadPoolExecutor(1) as writer:
        written: Future[Path] | None = None
        for job in jobs:
            if written:
                yield written.result()
            written = writer.submit(_write, job, NOTHING)
        if written:
            yield written.result()


def _write(job: Job, _nothing: Shared) -> Path:
    """Write the postings of some passages into a folder of their own, and return it. Raises WorkersFailed."""
    place, language, rows = job
    require_seen(place.parent)
    shutil.rmtree(place, ignore_errors=True)  # of a worker that was lost
    with atomic(place, folder=True) as part:  # one that was lost with its machine may still be writing
        postings = PostingsWriter(part, language)
        try:
            postings.add(rows)
            postings.commit()
        finally:
            postings.close()
    return place


def _read(file: Path) -> Any:
    return json.loads(file.read_text("utf-8"))


def _write_file(file: Path, value: object) -> None:
    """Put the value in the file's place in one step, and on the disk."""
    part = file.with_name(f".tmp{file.name}")  # the next writer removes one that is left
    with part.open("w", encoding="utf-8") as stream:
        json.dump(value, stream)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(file)


def _sync(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
