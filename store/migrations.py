"""The store's migrations. `sqlite-utils migrate kard.db store/` runs this file alone, outside of the package."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlite_utils import Database, Migrations

migrations = Migrations("kard")


@migrations()
def initial_tables(db: Database) -> None:
    """Create every table, index and trigger of `tables.sql`."""
    for statement in _statements():
        db.execute(statement)


@migrations()
def judgements_go_with_their_text(db: Database) -> None:
    """Create anew the triggers that drop what rested on a changed text: in older stores judgements outlived it."""
    for trigger in ("questions_changed", "rationales_changed"):
        db.execute(f"drop trigger {trigger}")
        for statement in _statements():
            if f"create trigger {trigger} " in statement:
                db.execute(statement)


@migrations()
def short_answers_have_f1(db: Database) -> None:
    """Add the column for F1 of short answers."""
    if "f1" not in db.table("predictions").columns_dict:
        db.execute("alter table predictions add column f1 real")


def _statements() -> Iterator[str]:
    """Yield each statement of `tables.sql`: executescript would commit, and triggers hold semicolons too."""
    statement = ""
    for line in Path(__file__).with_name("tables.sql").read_text(encoding="utf-8").splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
