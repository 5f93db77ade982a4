"""The Tantivy side of a knowledge base: the BM25 query, and an index of integer ids and term frequencies, no text.

The query is built term by term and prose never meets a query parser: Tantivy's rejects three of four real
rationales, counts each word once (11 nDCG points lost on rationales) and overflows the stack on nested
parentheses.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tantivy import (
    Document,
    FieldType,
    Index,
    IndexWriter,
    Occur,
    Query,
    Schema,
    SchemaBuilder,
    TextAnalyzer,
)

from kard.errors import BadInput, Missing
from kard.knowledge.analysis import DEFAULT_LANGUAGE, analyser, searchable, tokenizer_name
from kard.progress import timed

Row = tuple[int, str, str]
"""A passage's rowid, title and text."""
NEVER_COMMON = 10  # a term in so few passages is kept whatever its share: small bases have no stop words
# One thread fills one segment until its heap is full: 271,169 Wikipedia passages need less than a third of
# this, and less is allocated where less is needed. Two threads would make two segments. shards.py needs far less.
HEAP_BYTES = 1_000_000_000
LOCK = ".tantivy-writer.lock"  # Tantivy's own, held as long as somebody writes
MAX_SEGMENTS = 4  # a rationale's search costs 1.0 to 1.2 times one segment's at 4, 3 times at 16


def schema(language: str) -> Schema:
    """Return the fields: `id` (the passage's rowid) and `text` with frequencies.

    Positions of terms would double the disk.
    """
    builder = SchemaBuilder()
    builder.add_integer_field("id", stored=False, indexed=True, fast=True)
    builder.add_text_field("text", stored=False, tokenizer_name=tokenizer_name(language), index_option="freq")
    return builder.build()


def indexed_text(title: str, text: str) -> str:
    """Return what is searched of a passage: its text, and its title, which names what the pronouns stand for.

    nDCG@10 of 1,603 questions' gold evidence among 306,549 Wikipedia passages is .346 by question and .449 by
    rationale with the titles, .265 and .388 without (`benchmarks/retrieval.py`).
    """
    return searchable(f"{title}\n{text}")


def repair_command(knowledge: Path) -> str:
    """Return the command that writes the postings of a knowledge base again, whatever is damaged."""
    return f"kard index --repair --knowledge {knowledge}"


@contextmanager
def _readable(folder: Path) -> Generator[None]:
    """Turn what Tantivy says of damaged files into Missing: ValueError, or a panic, which is no Exception."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, ValueError) and type(error).__name__ != "PanicException":
            raise
        repair = repair_command(folder.parent)
        raise Missing(f"the postings in {folder} are damaged; write them again with: {repair}") from error


class Postings:
    """Reader of one committed state. Safe to share between threads; a search releases the interpreter lock."""

    def __init__(self, folder: Path, language: str = DEFAULT_LANGUAGE) -> None:
        self._folder = folder
        self._language = language
        with _readable(folder):
            index = Index.open(str(folder))
            index.reload()
            self._searcher = index.searcher()
        self._schema = index.schema
        self._local = threading.local()  # an analyser cannot be borrowed twice at a time
        self.count = self._searcher.num_docs
        self.segments = self._searcher.num_segments

    def terms(self, text: str) -> Counter[str]:
        """Return the stems of the text and how often each occurs in it."""
        local: TextAnalyzer | None = getattr(self._local, "analyser", None)
        if local is None:
            local = self._local.analyser = analyser(self._language)
        return Counter(local.analyze(searchable(text)))

    def query(self, text: str, max_df: float) -> Query | None:
        """Build the BM25 query of the text's rarer terms, each weighted by its count; None if no passage holds any.

        Terms in more than `max_df` of the passages are dropped unless none would remain: 6.5 times faster
        than all terms on rationales, nDCG@10 higher by .015 (95% interval .010 to .019).
        """
        terms = self.counted(text, max_df)
        if not terms:
            return None
        return Query.boolean_query([(Occur.Should, self._weighted(term, n)) for term, n in terms])

    @timed("search postings")
    def counted(self, text: str, max_df: float) -> list[tuple[str, int]]:
        """Return the terms that `query` searches with, each with its count in the text."""
        frequency = self._searcher.doc_freq
        with _readable(self._folder):
            indexed = [(term, n, df) for term, n in self.terms(text).items() if (df := frequency("text", term))]
        highest = max(max_df * self.count, NEVER_COMMON)
        rare = [(term, n) for term, n, df in indexed if df <= highest]
        return rare or [(term, n) for term, n, _ in indexed]

    def holds_rare(self, text: str, max_df: float) -> bool:
        """Return whether a passage holds a term of the text that is in no more than `max_df` of the passages."""
        with _readable(self._folder):
            found = [self._searcher.doc_freq("text", term) for term in self.terms(text)]
        return any(0 < df <= max(max_df * self.count, NEVER_COMMON) for df in found)

    def _weighted(self, term: str, count: int) -> Query:
        query = Query.term_query(self._schema, "text", term, index_option="freq")
        return query if count == 1 else Query.boost_query(query, float(count))

    @timed("search postings")
    def top(self, query: Query, k: int) -> list[tuple[int, float]]:
        """Return the `k` best rowids with their scores, best first; equal scores in the order of their rowids."""
        limit = min(k, self.count)
        if limit < 1:  # Tantivy panics on 0
            return []
        with _readable(self._folder):
            hits = self._searcher.search(query, limit=limit, count=False).hits
            rowids = self._searcher.fast_field_values("id", [address for _, address in hits])
        scores = [(int(rowid or 0), float(score)) for rowid, (score, _) in zip(rowids, hits, strict=True)]
        return sorted(scores, key=lambda hit: (-hit[1], hit[0]))

    def holds(self, rowid: int) -> bool:
        """Return whether the passage of this rowid is in the index."""
        return bool(self.top(Query.term_query(self._schema, "id", rowid), 1))

    def scores(self, query: Query, rowids: Sequence[int]) -> dict[int, float]:
        """Return the query's score of each of these rowids; those that left the index are left out."""
        if not rowids:
            return {}
        # One term query an id: 2.4 times faster for 32 of them than one term set.
        by_id = [(Occur.Should, Query.term_query(self._schema, "id", rowid)) for rowid in rowids]
        among = Query.const_score_query(Query.boolean_query(by_id), 0.0)
        return dict(self.top(Query.boolean_query([(Occur.Must, among), (Occur.Should, query)]), len(rowids)))


@contextmanager
def alone(folder: Path) -> Generator[None]:
    """Keep other writers out of an index that this process has not opened. Raises BadInput if one writes."""
    import fcntl  # not on Windows, where all else works

    with (folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            problem = "another `kard index` writes here; wait until it has ended"
            raise BadInput(problem, at=str(folder.parent)) from error
        yield


def _empty(folder: Path) -> None:
    """Remove everything from an index that no other process writes. Raises BadInput if one does."""
    with alone(folder):
        for file in folder.iterdir():
            if file.name != LOCK:
                file.unlink()


class PostingsWriter:
    """Writer of additions and deletions, all or nothing at `commit`. One at a time a folder. Always close it."""

    def __init__(self, folder: Path, language: str = DEFAULT_LANGUAGE, *, empty: bool = False) -> None:
        """Open the index in `folder`. One that is damaged or of another language is emptied, or any with `empty`.

        Raises BadInput if another process writes here.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.language = folder, language
        self._schema = schema(language)
        if empty:
            _empty(folder)
        try:
            self.open()
        except ValueError:
            _empty(folder)
            self.open()

    def open(self) -> None:
        """Open the folder for writing, as after `close`."""
        folder, language = self.folder, self.language
        self._index = Index(self._schema, path=str(folder))
        self._index.register_tokenizer(tokenizer_name(language), analyser(language))
        self._writer: IndexWriter = self._index.writer(heap_size=HEAP_BYTES, num_threads=1)
        self._index.reload()
        for part in folder.glob(".tmp*"):  # of a writer that was killed while it replaced a file; there is no other
            part.unlink(missing_ok=True)

    @timed("write postings")
    def add(self, rows: Iterable[Row]) -> None:
        """Add passages."""
        add, make, form = self._writer.add_document, Document.from_dict, self._schema
        for rowid, title, text in rows:
            add(make({"id": rowid, "text": indexed_text(title, text)}, form))

    def delete(self, rowids: Iterable[int]) -> None:
        """Delete passages; rowids that the index lacks are no error."""
        for rowid in rowids:
            self._writer.delete_documents_by_term("id", rowid)

    def delete_from(self, rowid: int) -> None:
        """Delete every passage whose rowid is this or higher."""
        self._writer.delete_documents_by_query(
            Query.range_query(self._schema, "id", FieldType.Integer, lower_bound=rowid)
        )

    @timed("write postings")
    def commit(self) -> None:
        """Make everything since the last commit visible and durable, at once."""
        self._writer.commit()

    def rollback(self) -> None:
        """Forget everything since the last commit."""
        self._writer.rollback()

    def close(self) -> None:
        """Wait for merges and release the folder; the writer cannot be used until it is opened again.

        What was merged is collected by a writer anew: the one that waited still reads it.
        """
        with suppress(RuntimeError, ValueError):  # it is closed already; another process has begun to write
            self._writer.wait_merging_threads()
            self.open()
            self._writer.garbage_collect_files()
            self._writer.wait_merging_threads()

    def shape(self) -> tuple[int, int]:
        """Return the numbers of passages and of segments of the last commit."""
        self._index.reload()
        searcher = self._index.searcher()
        return searcher.num_docs, searcher.num_segments
