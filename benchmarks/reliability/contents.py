"""What a store, a knowledge base and the folder around them hold, in a form in which two runs can be compared."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

from processes import forked

SIDES = ("-wal", "-shm", "-journal")  # SQLite's own files beside a database
NOT_COMPARED = {"claims", "steps_log", "_sqlite_migrations", "sqlite_sequence", "sqlite_stat1"}
VARYING = {"created", "milliseconds", "metrics"}  # columns that differ between two runs: times, alone or in JSON
QUERIES = ("gate red", "tower", "Quildon")


def contents(store: Path) -> dict[str, dict[str, int]]:
    """Return how often each row stands in each table, without row ids and times.

    A reference to a row is that row's content, so that two stores are equal if they hold the same, whatever the
    order in which it came.
    """
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        tables = [
            r[0] for r in db.execute("select name from sqlite_master where type = 'table'") if "_fts" not in r[0]
        ]
        reader = _Contents(db)
        return {name: reader.rows(name) for name in sorted(set(tables) - NOT_COMPARED)}


class _Contents:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._parents: dict[str, dict[str, str]] = {}
        self._known: dict[tuple[str, int], str] = {}

    def rows(self, table: str) -> dict[str, int]:
        return dict(Counter(self._text(table, row) for row in self._db.execute(f'select * from "{table}"')))

    def _text(self, table: str, row: sqlite3.Row) -> str:
        if table not in self._parents:
            links = self._db.execute(f'pragma foreign_key_list("{table}")').fetchall()
            self._parents[table] = {link["from"]: link["table"] for link in links}
        shown: dict[str, object] = {}
        for column in row.keys():  # noqa: SIM118  # a Row's own iterator gives values
            value = row[column]
            if column in VARYING or (column == "id" and isinstance(value, int)):
                continue
            parent = self._parents[table].get(column)
            shown[column] = self._of(parent, value) if parent and isinstance(value, int) else value
        return json.dumps(shown, sort_keys=True, default=str)

    def _of(self, table: str, key: int) -> str:
        if (table, key) not in self._known:
            row = self._db.execute(f'select * from "{table}" where id = ?', [key]).fetchone()
            self._known[table, key] = "none" if row is None else self._text(table, row)
        return self._known[table, key]


def damage(store: Path) -> list[str]:
    """Return what SQLite finds wrong in a database: pages, references, search indexes."""
    with closing(sqlite3.connect(store)) as db:
        wrong = [row[0] for row in db.execute("pragma integrity_check") if row[0] != "ok"]
        wrong += [f"reference of {row[0]}" for row in db.execute("pragma foreign_key_check")]
        names = [
            r[0] for r in db.execute("select name from sqlite_master where sql like 'create virtual table%fts5%'")
        ]
        for name in names:
            try:
                db.execute(f"insert into {name} ({name}, rank) values ('integrity-check', 1)")
            except sqlite3.DatabaseError as error:
                wrong.append(f"{name}: {error}")
        db.rollback()
    return wrong


def knowledge(folder: Path) -> dict[str, object]:
    """Return what a knowledge base says of itself and finds; {} if there is none."""
    from kard.knowledge.knowledge_base import KnowledgeBase

    def look() -> dict[str, object]:
        base = KnowledgeBase.open(folder)
        hits = [(h.passage.id, round(h.bm25, 4)) for q in QUERIES for h in base.search(q, 9)]
        return {"id": base.id, "passages": sorted(base.passage_ids()), "hits": hits}

    return forked(look) if folder.exists() else {}


def files(folder: Path) -> dict[str, int]:
    """Return how many files of each name lie below a folder; those with a name by chance count by their ending."""
    names: Counter[str] = Counter()
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.endswith(SIDES):
            inside = "tantivy/" in name and path.stem not in ("meta", ".managed")
            names[f"{path.parent.name}/*{path.suffix}" if inside else name] += 1
    return dict(names)
