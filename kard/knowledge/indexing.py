"""Sources into a knowledge base: what is new is added, what has gone is removed, what stayed is left alone.

Two files have to agree, `passages.db` and `tantivy/`, and a kill may come at any moment. So: one SQLite
transaction over the whole run, which also notes what Tantivy has to do (`pending` and `removed`); it commits;
then Tantivy commits; then the note is wiped. A kill before the first commit leaves the base as it was. A kill
after it leaves the note, and the next run starts by doing what the note says from the text in SQLite, which
may be done twice without harm. A bad source raises before the first commit.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kard.errors import BadInput
from kard.knowledge import passages_db as texts
from kard.knowledge.bm25 import ANALYSER, MAX_SEGMENTS, PostingsWriter, indexed_text
from kard.knowledge.knowledge_base import POSTINGS
from kard.knowledge.sources import documents, place_of
from kard.knowledge.splitting import split
from kard.knowledge.updates import DocumentClash, SourceUpdate
from kard.progress import SILENT, Progress
from kard.records import Document, Passage

BATCH = 2_000  # documents: large enough to make a batch's own cost vanish, small enough for a lively bar


@dataclass(frozen=True, slots=True)
class Indexed:
    """What a run did, in passages."""

    added: int
    removed: int
    kept: int  # of this source, there before
    passages: int  # in the base now, of all sources
    id: str  # of the base now


def index_source(
    source: Path, folder: Path, *, progress: Progress = SILENT, words: int = 100, name: str = ""
) -> Indexed:
    """Bring the knowledge base in `folder` to what a file or folder of documents says now.

    A source is known by its `name`, its path unless given: indexing it again replaces what it brought. Raises
    BadInput, with file and line, for a source that cannot be read, and leaves the base as it was.
    """
    if not source.exists():
        raise BadInput("no such file or folder; check the path", at=str(source))
    try:
        return index_documents(
            documents(source), folder, source=name or str(source.resolve()), progress=progress, words=words
        )
    except DocumentClash as clash:
        # Looking the place up costs a second reading, but only of a source that has to be mended anyway.
        raise BadInput(clash.problem, at=place_of(source, clash.document)) from clash


def index_documents(
    documents: Iterable[Document], folder: Path, *, source: str, progress: Progress = SILENT, words: int = 100
) -> Indexed:
    """Bring the knowledge base in `folder` to what these documents say, under the name `source`.

    Holds one batch of documents and one byte a passage in memory. Raises BadInput for two documents of one key
    and different texts, and when there is no document at all; the base is then as it was.
    """
    with _opened(folder) as (db, postings):
        _settle(db, postings, progress)
        try:
            db.execute("begin immediate")
            arrivals = SourceUpdate(db, source)
            with progress.bar("Indexing passages", None) as advance:
                for batch in _batches(_passages(documents, words)):
                    fresh = arrivals.add(batch)
                    postings.add((rowid, indexed_text(p.title, p.text)) for rowid, p in fresh)
                    advance(len(batch))
            if arrivals.seen == 0:
                raise BadInput("holds no document with any text; check the path", at=source)
            gone = arrivals.remove_missing()
            postings.delete(gone)
            indexed = _note(db, arrivals, len(gone))
            db.execute("commit")
        except BaseException:
            postings.rollback()
            if db.in_transaction:
                db.execute("rollback")
            raise
        if indexed.added or indexed.removed:
            postings.commit()
            _done(db)
        _compact(db, postings)
        return indexed


def _passages(documents: Iterable[Document], words: int) -> Iterator[Passage]:
    for document in documents:
        try:
            for part, text in enumerate(split(document.text, words)):
                yield Passage.of(document.key, part, document.title, text)
        except UnicodeEncodeError as error:
            problem = f"document {document.key!r} holds half a surrogate pair, which is no character; remove it"
            raise DocumentClash(document.key, problem) from error


def _batches(passages: Iterable[Passage]) -> Iterator[list[Passage]]:
    stream = iter(passages)
    while batch := list(islice(stream, BATCH)):
        yield batch


@contextmanager
def _opened(folder: Path) -> Generator[tuple[sqlite3.Connection, PostingsWriter]]:
    """Both files, for this process alone. A folder that was made here and got no passage is removed again."""
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        postings = PostingsWriter(folder / POSTINGS)
    except OSError as error:
        raise BadInput(f"cannot write here ({error.strerror}); name another folder", at=str(folder)) from error
    try:
        db = texts.create(folder / texts.NAME)
        try:
            yield db, postings
            made = made and not texts.meta(db, "id")
        except BaseException:
            made = made and not texts.meta(db, "id")
            raise
        finally:
            db.close()
    except sqlite3.DatabaseError as error:
        made = False
        raise BadInput(
            f"cannot be written ({error}); mend that and run again", at=str(folder / texts.NAME)
        ) from error
    finally:
        postings.close()
        if made:
            shutil.rmtree(folder)


def _note(db: sqlite3.Connection, arrivals: SourceUpdate, removed: int) -> Indexed:
    """Write down what the base is now and what Tantivy has to do to follow."""
    changed = bool(arrivals.added or removed)
    (total,) = db.execute("select count(*) from passages").fetchone()
    known = texts.meta(db, "id")
    if changed or not known:
        known = texts.identity(db, ANALYSER)
        starts: list[int] = json.loads(texts.meta(db, "runs", "[]"))
        if arrivals.added:
            starts.append(arrivals.first)
        texts.set_meta(
            db,
            id=known,
            analyser=ANALYSER,
            count=str(total),
            next=str(arrivals.next),
            runs=json.dumps(starts),
            pending=str(arrivals.first),
        )
    return Indexed(arrivals.added, removed, arrivals.kept, total, known)


def _done(db: sqlite3.Connection) -> None:
    db.execute("begin immediate")
    db.execute("delete from removed")
    db.execute("delete from meta where key = 'pending'")
    db.execute("commit")


def _settle(db: sqlite3.Connection, postings: PostingsWriter, progress: Progress) -> None:
    """Bring Tantivy to what SQLite holds, if a killed run, a new analyser or a lost folder left them apart."""
    pending = texts.meta(db, "pending")
    total = int(texts.meta(db, "count", "0"))
    start = int(pending) if pending else 0
    if not pending and postings.shape()[0] == total and texts.meta(db, "analyser", ANALYSER) == ANALYSER:
        return
    held = postings.shape()[0]
    if held == 0 or texts.meta(db, "analyser", ANALYSER) != ANALYSER:
        start = 0
    _rewrite(db, postings, start, progress)
    if postings.shape()[0] != total:  # the note was not the whole truth: take the text's word for everything
        _rewrite(db, postings, 0, progress)
    texts.set_meta(db, analyser=ANALYSER)
    if total:
        texts.set_meta(db, id=texts.identity(db, ANALYSER))
    _done(db)


def _rewrite(db: sqlite3.Connection, postings: PostingsWriter, start: int, progress: Progress) -> None:
    """Write the postings of every passage from this rowid on again, from the text, into one segment."""
    postings.delete(rowid for (rowid,) in db.execute("select rowid from removed"))
    postings.delete_from(start)
    with progress.bar("Writing postings again", None) as advance:
        rows = iter(texts.searched_rows(db, start))
        while some := list(islice(rows, BATCH)):
            postings.add((rowid, indexed_text(title, text)) for rowid, title, text in some)
            advance(len(some))
    postings.commit()


def _compact(db: sqlite3.Connection, postings: PostingsWriter) -> None:
    """Join the latest runs' segments when there are too many to search fast."""
    starts: list[int] = json.loads(texts.meta(db, "runs", "[]"))
    if postings.shape()[1] <= MAX_SEGMENTS or len(starts) < 2:
        return
    end = int(texts.meta(db, "next"))
    kept = joined([b - a for a, b in zip(starts, [*starts[1:], end], strict=True)])
    _rewrite(db, postings, starts[kept - 1], SILENT)
    texts.set_meta(db, runs=json.dumps(starts[:kept]))


def joined(sizes: list[int]) -> int:
    """How many runs to keep of these (oldest first), the last of them holding all later ones.

    Joins the last two, and goes on while the run before is no larger than what has been joined: a passage
    is then written again a logarithmic number of times over a base's life.
    """
    kept = max(1, len(sizes) - 1)
    total = sum(sizes[kept - 1 :])
    while kept > 1 and (kept >= MAX_SEGMENTS or sizes[kept - 2] <= total):
        kept -= 1
        total += sizes[kept - 1]
    return kept
