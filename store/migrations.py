"""The store's migrations. `sqlite-utils migrate kard.db store/` runs this file alone, outside of the package."""

import sqlite3
from pathlib import Path

from sqlite_utils import Database, Migrations

migrations = Migrations("kard")


@migrations()
def initial_tables(db: Database) -> None:
    """Create every table, index and trigger of `tables.sql`."""
    statement = ""
    for line in Path(__file__).with_name("tables.sql").read_text(encoding="utf-8").splitlines(keepends=True):
        statement += line
        # One statement at a time, since executescript would commit the transaction; triggers hold semicolons too.
        if sqlite3.complete_statement(statement):
            db.execute(statement)
            statement = ""
