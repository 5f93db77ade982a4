"""What a source's passages are to a base that may hold them already: new, known, changed or gone."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from kard.db import batches, marks
from kard.errors import BadInput
from kard.knowledge import passages_db as texts
from kard.records import Passage

INSERT = (
    "insert or ignore into passages (rowid, id, document, part, title, text, source) values (?, ?, ?, ?, ?, ?, ?)"
)


class DocumentClash(BadInput):
    """A document that cannot be taken in; `document` is its key, from which its place can be found."""

    def __init__(self, document: str, problem: str) -> None:
        super().__init__(problem)
        self.document = document
        self.problem = problem


class SourceUpdate:
    """One run of one source, inside the caller's transaction: `take` batches, then `leave` once."""

    def __init__(self, db: sqlite3.Connection, source: str) -> None:
        self._db = db
        db.execute("insert or ignore into sources (name) values (?)", (source,))
        (self._source,) = db.execute("select id from sources where name = ?", (source,)).fetchone()
        self.first = self.next = int(texts.meta(db, "next", "1"))
        self._met = bytearray(self.first)  # by rowid: this run brought it again
        self._any = db.execute("select 1 from passages limit 1").fetchone() is not None
        self._replaced: list[int] = []
        self.added = self.kept = self.seen = 0

    def add(self, batch: Sequence[Passage]) -> list[tuple[int, Passage]]:
        """Write down the passages that are new, under the rowids that are returned with them.

        Raises DocumentClash when a document comes a second time with another text.
        """
        self.seen += len(batch)
        new = self._unknown(batch) if self._any else batch
        rows = list(enumerate(new, self.next))
        before = self._db.total_changes
        self._db.executemany(
            INSERT, ((rowid, p.id, p.document, p.part, p.title, p.text, self._source) for rowid, p in rows)
        )
        self.next += len(rows)
        if self._db.total_changes - before != len(rows):
            rows = [(rowid, p) for rowid, p in rows if self._stands(rowid, p)]
        self.added += len(rows)
        return rows

    def remove_missing(self) -> list[int]:
        """Remove what the source brought before and did not bring now; the rowids of what has gone."""
        db, source = self._db, self._source
        met = self._met
        stale = [r for (r,) in db.execute("select passage from also where source = ?", (source,)) if not met[r]]
        db.executemany("delete from also where source = ? and passage = ?", ((source, r) for r in stale))
        owned = db.execute("select rowid from passages where source = ? and rowid < ?", (source, self.first))
        gone = [r for (r,) in owned if not met[r]]
        # What another source brings too becomes that one's.
        heirs = [
            (heir, rowid)
            for rowid in gone
            for (heir,) in db.execute("select min(source) from also where passage = ?", (rowid,))
            if heir is not None
        ]
        for heir, rowid in heirs:
            db.execute("update passages set source = ? where rowid = ?", (heir, rowid))
            db.execute("delete from also where passage = ? and source = ?", (rowid, heir))
        stays = {rowid for _, rowid in heirs}
        gone = [r for r in gone if r not in stays]
        db.executemany("delete from passages where rowid = ?", ((r,) for r in gone))
        gone = sorted([*gone, *self._replaced])
        db.executemany("insert or ignore into removed (rowid) values (?)", ((r,) for r in gone))
        return gone

    def _unknown(self, batch: Sequence[Passage]) -> list[Passage]:
        """The passages whose id the base lacks; the others are ticked off."""
        known: dict[str, tuple[int, int]] = {}
        for some in batches([p.id for p in batch]):
            query = f"select id, rowid, source from passages where id in ({marks(some)})"
            known.update((i, (rowid, source)) for i, rowid, source in self._db.execute(query, some))
        for rowid, source in known.values():
            if rowid >= self.first or self._met[rowid]:
                continue
            self._met[rowid] = 1
            self.kept += 1
            if source != self._source:
                self._db.execute("insert or ignore into also values (?, ?)", (rowid, self._source))
        return [p for p in batch if p.id not in known]

    def _stands(self, rowid: int, passage: Passage) -> bool:
        """Whether the base has the passage under this rowid now; it takes an older text's place here."""
        db = self._db
        found = db.execute("select rowid from passages where id = ?", (passage.id,)).fetchone()
        if found:  # under another rowid it is the same text met twice in this source
            return found[0] == rowid
        (old,) = db.execute(
            "select rowid from passages where document = ? and part = ? and source = ?",
            (passage.document, passage.part, self._source),
        ).fetchone()
        if old >= self.first or self._met[old]:
            raise DocumentClash(
                passage.document,
                f"document {passage.document!r} comes twice with different texts; give each its own id",
            )
        heir = db.execute("select min(source) from also where passage = ?", (old,)).fetchone()[0]
        if heir is None:
            db.execute("delete from passages where rowid = ?", (old,))
            self._replaced.append(old)
        else:
            db.execute("update passages set source = ? where rowid = ?", (heir, old))
            db.execute("delete from also where passage = ? and source = ?", (old, heir))
        p = passage
        db.execute(INSERT, (rowid, p.id, p.document, p.part, p.title, p.text, self._source))
        return True
