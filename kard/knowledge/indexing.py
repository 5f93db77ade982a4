"""Bring a knowledge base to what a source says: add what is new, remove what has gone, leave the rest alone.

Two files have to agree, `passages.db` and `tantivy/`, and a kill may come at any moment. So: one SQLite
transaction over the whole run, which also notes what Tantivy has to do (`pending`, `leaving`, `deleted`); it
commits; then Tantivy commits; then the note is wiped. A kill before the first commit leaves the base as it was. A
kill after it leaves the note. The next run starts by doing what the note says, from the text in SQLite; to do that
twice is no harm. A bad source raises before the first commit.

Workers read pages, split them and write postings; passages keep the order of the source. What they wrote becomes
the index in one step (shards.py), which is then Tantivy's commit.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path

from kard.errors import BadInput
from kard.knowledge import passages_db
from kard.knowledge.analysis import DEFAULT_LANGUAGE, analyser_name
from kard.knowledge.bm25 import MAX_SEGMENTS, PostingsWriter, Row, repair_command
from kard.knowledge.knowledge_base import POSTINGS
from kard.knowledge.passages_db import DocumentClash, SourceUpdate
from kard.knowledge.shards import postings_writer
from kard.knowledge.sources import Placed, place_of, read, size, unread_documents
from kard.knowledge.splitting import split
from kard.progress import SILENT, Advance, Progress, Share, reading, timed
from kard.records import Document, Passage
from kard.work.workers import NOTHING, Shared, Workers, require_seen

NO_FILE: Mapping[str, object] = {"path": ""}  # the origin of documents that were read from no file
PART, PAGES = 500_000, 200  # characters and pages or files that a worker gets at a time
Fields = tuple[str, str, int, str, str]
"""A passage between processes: it takes nearly twice the time of its fields."""
BATCH = 2_000  # passages: large enough to make a batch's own cost vanish, small enough for a lively bar


@dataclass(frozen=True, slots=True)
class Indexed:
    """What a run did, counted in passages."""

    added: int
    removed: int
    unchanged: int  # of this source
    passages: int  # of all sources, now
    id: str  # of the knowledge base, now


def index_source(
    source: Path,
    folder: Path,
    *,
    progress: Progress = SILENT,
    words: int = 100,
    name: str = "",
    lines: bool = False,
    language: str = "",
    skip_bad: bool = False,
    workers: Workers | None = None,
) -> Indexed:
    """Bring the knowledge base in `folder` to what a file or folder of documents says now.

    A source is known by its `name`, by default its path. To index it again replaces what it brought. With `lines`,
    each line of a text file is a document. `language` is that of the stems, by default the knowledge base's own;
    with another one all postings are written again. `workers` read, split and write postings beside each other;
    the base is the same. Raises BadInput, with file and line, for a source that cannot be read, and leaves the base
    as it was; with `skip_bad` files of a folder that cannot be read are left out.
    """
    if not source.exists():
        raise BadInput("no such file or folder; check the path", at=str(source))
    if workers and workers.elsewhere:
        source = source.resolve()
    try:
        with reading(size(source)) as share:
            unread = unread_documents(source, lines=lines)
            first = list(islice(unread, 1))
            unread = chain(first, unread)
            # A row is split sooner than it is handed over and back.
            beside = workers if first and isinstance(first[0][1], partial) else None
            return index_passages(
                _passages_by(beside, unread, words, skip_bad, source)
                if beside
                else _passages(read(unread, skip_bad=skip_bad), words),
                folder,
                source=name or str(source.resolve()),
                progress=progress,
                origin={"path": str(source.resolve()), "words": words, "lines": lines, "skip_bad": skip_bad},
                language=language or language_of(folder),
                workers=workers,
                share=share,
            )
    except DocumentClash as clash:
        # Looking the place up costs a second reading, but only of a source that has to be mended anyway.
        raise BadInput(clash.problem, at=place_of(source, clash.document, lines=lines)) from clash


def index_documents(
    documents: Iterable[Document],
    folder: Path,
    *,
    source: str,
    progress: Progress = SILENT,
    words: int = 100,
    keep_others: bool = False,
    origin: Mapping[str, object] | None = NO_FILE,
    language: str = "",
    workers: Workers | None = None,
) -> Indexed:
    """Bring the knowledge base in `folder` to what these documents say, under the name `source`.

    Other documents that the source brought before are removed unless `keep_others`.
    Memory holds a few parts of the passages (shards.py), one byte for every stored passage, and the rowids of those
    that go. Raises BadInput for two documents of one key and different texts, and if there is no document at all;
    the base is then as it was. `origin` says where they were read; None removes the source.
    """
    return index_passages(
        _passages((("", document) for document in documents), words),
        folder,
        source=source,
        progress=progress,
        keep_others=keep_others,
        origin=origin,
        language=language or language_of(folder),
        workers=workers,
    )


@timed("read and split documents")
def index_passages(
    passages: Iterable[Passage],
    folder: Path,
    *,
    source: str,
    progress: Progress = SILENT,
    keep_others: bool = False,
    origin: Mapping[str, object] | None = NO_FILE,
    language: str,
    workers: Workers | None = None,
    share: Share | None = None,
) -> Indexed:
    """Do for documents that are split into passages what `index_documents` does.

    `workers` write the postings. `share` tells how much of the passages has been taken, if that can be known.
    """
    with _opened(folder, language, workers) as (db, postings):
        _settle(db, postings, language, progress)
        keys: set[str] = set()  # of the documents that came, if others are kept
        try:
            db.execute("begin immediate")
            update = SourceUpdate(db, source)
            with progress.bar("Indexing passages", None, share) as advance:
                postings.add(_added(passages, update, keys if keep_others else None, advance))
            if update.seen == 0 and origin is not None:
                raise BadInput("holds no document with any text; pictures of text need OCR first", at=source)
            gone = update.remove_missing(keys if keep_others else None)
            passages_db.note_origin(db, source, origin)
            indexed = _note(db, update, len(gone), language)
            db.execute("commit")
        except BaseException:
            postings.rollback()
            if db.in_transaction:
                db.execute("rollback")
            raise
        if indexed.removed:
            # Tantivy counts deleted passages in every term's frequency until their segment goes: a base would score
            # by what it once held.
            postings.rollback()
            rewrite(db, postings, 0, progress)
            passages_db.set_meta(db, runs=json.dumps([0]), deleted="")
        elif indexed.added:
            postings.commit()
        if indexed.added or indexed.removed:
            passages_db.clear_pending(db)
        if not indexed.removed:
            _compact(db, postings)
        return indexed


def _added(
    passages: Iterable[Passage], update: SourceUpdate, keys: set[str] | None, advance: Advance
) -> Iterator[Row]:
    """Write passages to SQLite and yield those that are new; note the documents of all, if they are asked for."""
    for batch in _batches(passages):
        if keys is not None:
            keys.update(passage.document for passage in batch)
        yield from ((rowid, p.title, p.text) for rowid, p in update.add(batch))
        advance(len(batch))


def _passages(documents: Iterable[tuple[object, Document]], words: int) -> Iterator[Passage]:
    for _, document in documents:
        try:
            for part, text in enumerate(split(document.text, words)):
                yield Passage.of(document.key, part, document.title, text)
        except UnicodeEncodeError as error:
            problem = f"document {document.key!r} holds half a character (a half of a surrogate pair); remove it"
            raise DocumentClash(document.key, problem) from error


def _passages_by(
    workers: Workers, unread: Iterable[Placed], words: int, skip_bad: bool, source: Path
) -> Iterator[Passage]:
    """Yield the passages of all documents in their order; workers read and split them."""
    jobs = enumerate((part, words, skip_bad, str(source)) for part in _parts(unread))
    split_up: dict[int, list[Fields]] = {}  # those whose turn has not come
    turn = 0
    for (number, _), passages in workers.run(_split, jobs, NOTHING):
        split_up[number] = passages
        while turn in split_up:
            yield from (Passage(*fields) for fields in split_up.pop(turn))
            turn += 1


def _split(job: tuple[int, tuple[list[Placed], int, bool, str]], _nothing: Shared) -> list[Fields]:
    """Read and split some documents, in a worker. Raises BadInput, and WorkersFailed where files are not seen."""
    _, (documents, words, skip_bad, source) = job
    if isinstance(documents[0][0], Path):  # files; pages of a dump come with their text
        require_seen(Path(source))
    passages = _passages(read(documents, skip_bad=skip_bad), words)
    return [(p.id, p.document, p.part, p.title, p.text) for p in passages]


def _parts(unread: Iterable[Placed]) -> Iterator[list[Placed]]:
    """Yield the documents in parts that are worth a job and no burden on the memory."""
    part: list[Placed] = []
    characters = 0
    for place, document in unread:
        part.append((place, document))
        held = document.args if isinstance(document, partial) else (document.text,)
        characters += sum(len(value) for value in held if isinstance(value, str))
        if characters > PART or len(part) == PAGES:
            yield part
            part, characters = [], 0
    if part:
        yield part


def _batches(passages: Iterable[Passage]) -> Iterator[list[Passage]]:
    stream = iter(passages)
    while batch := list(islice(stream, BATCH)):
        yield batch


@contextmanager
def _opened(
    folder: Path, language: str, workers: Workers | None
) -> Generator[tuple[sqlite3.Connection, PostingsWriter]]:
    """Open both files for this process alone. A folder that was made here and got no passage is removed again."""
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        postings = postings_writer(folder / POSTINGS, language, workers)
    except OSError as error:
        raise BadInput(f"cannot write here ({error.strerror}); name another folder", at=str(folder)) from error
    try:
        db = passages_db.create(folder / passages_db.NAME)
        try:
            yield db, postings
            is_new = is_new and not passages_db.meta(db, "id")
        except BaseException:
            is_new = is_new and not passages_db.meta(db, "id")
            raise
        finally:
            db.close()
    except sqlite3.DatabaseError as error:
        is_new = False
        problem = f"cannot be written ({error}); mend that and run again"
        if "malformed" in str(error) or "not a database" in str(error):
            problem = f"damaged ({error}); take what can be read with: {repair_command(folder)}"
        raise BadInput(problem, at=str(folder / passages_db.NAME)) from error
    finally:
        postings.close()
        if is_new:
            shutil.rmtree(folder)


def _note(db: sqlite3.Connection, update: SourceUpdate, removed: int, language: str) -> Indexed:
    """Write what the base is now and what Tantivy has to do to follow."""
    changed = bool(update.added or removed)
    total = passages_db.count(db)
    kb_id = passages_db.meta(db, "id")
    if changed or not kb_id:
        before = {"before_id": kb_id, "before_count": passages_db.meta(db, "count", "0")}
        kb_id = passages_db.identity(db, analyser_name(language))
        starts: list[int] = json.loads(passages_db.meta(db, "runs", "[]"))
        if update.added:
            starts.append(update.first)
        passages_db.set_meta(
            db,
            id=kb_id,
            language=language,
            count=str(total),
            next=str(update.next),
            runs=json.dumps(starts),
            pending=str(update.first),
            **({"deleted": "1"} if removed else {}),
            **before,
        )
    return Indexed(update.added, removed, update.unchanged, total, kb_id)


def language_of(folder: Path) -> str:
    """Return the language of a knowledge base's stems; English for a new one, or where it cannot be read."""
    path = folder / passages_db.NAME
    with suppress(sqlite3.DatabaseError):
        if path.exists():
            with closing(passages_db.connect(path)) as db:
                return passages_db.meta(db, "language", DEFAULT_LANGUAGE)
    return DEFAULT_LANGUAGE


def _settle(db: sqlite3.Connection, postings: PostingsWriter, language: str, progress: Progress) -> None:
    """Bring Tantivy to what SQLite holds, if a killed run, another language or a lost folder left them apart."""
    pending = passages_db.meta(db, "pending")
    total = int(passages_db.meta(db, "count", "0"))
    same = passages_db.meta(db, "language", DEFAULT_LANGUAGE) == language
    deleted = passages_db.meta(db, "deleted")  # their segments still count in the frequencies
    if not (pending or deleted) and same and postings.shape()[0] == total:
        return
    partly = pending and same and not deleted and postings.shape()[0]
    rewrite(db, postings, int(pending) if partly else 0, progress)
    if postings.shape()[0] != total:  # the note did not tell everything: write all of them
        rewrite(db, postings, 0, progress)
    complete(db, language)


def complete(db: sqlite3.Connection, language: str) -> None:
    """Write what the base is, now that the postings are those of all its passages in one segment or a few."""
    if total := passages_db.count(db):
        kb_id = passages_db.identity(db, analyser_name(language))
        passages_db.set_meta(db, id=kb_id, language=language, count=str(total), deleted="")
    passages_db.clear_pending(db)


def rewrite(db: sqlite3.Connection, postings: PostingsWriter, start: int, progress: Progress) -> None:
    """Write again the postings of every passage from this rowid on, from the text, into one segment."""
    if start:
        postings.delete(passages_db.removed_rowids(db))
    postings.delete_from(start)
    with progress.bar("Writing postings again", passages_db.count(db, start)) as advance:
        postings.add(_counted(passages_db.searched_rows(db, start), advance))
    postings.commit()


def _counted(rows: Iterator[Row], advance: Advance) -> Iterator[Row]:
    while batch := list(islice(rows, BATCH)):
        yield from batch
        advance(len(batch))


def _compact(db: sqlite3.Connection, postings: PostingsWriter) -> None:
    """Join the latest runs' segments when there are too many to search fast."""
    starts: list[int] = json.loads(passages_db.meta(db, "runs", "[]"))
    if postings.shape()[1] <= MAX_SEGMENTS or len(starts) < 2:
        return
    end = int(passages_db.meta(db, "next"))
    runs = runs_to_keep([b - a for a, b in zip(starts, [*starts[1:], end], strict=True)])
    rewrite(db, postings, starts[runs - 1], SILENT)
    passages_db.set_meta(db, runs=json.dumps(starts[:runs]))


def runs_to_keep(sizes: list[int]) -> int:
    """Return how many runs to keep of these (sizes, oldest first); the last of them takes in all later ones.

    The last two are joined, and the run before them too while it is no larger than what has been joined. So a
    passage is written again only a logarithmic number of times over a base's life.
    """
    runs = max(1, len(sizes) - 1)
    last = sum(sizes[runs - 1 :])
    while runs > 1 and (runs >= MAX_SEGMENTS or sizes[runs - 2] <= last):
        runs -= 1
        last += sizes[runs - 1]
    return runs
