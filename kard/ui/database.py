"""The store as datasette's database: read-only, its canned queries with parameters as a form gives them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from datasette.app import Datasette
from datasette.database import Database, QueryInterrupted, Results
from datasette.utils import sqlite_timelimit

from kard.db import parameters as query_parameters
from kard.db import sql
from kard.schema import Query
from kard.ui import parameters

Result = TypeVar("Result")


class Store(Database):
    """A store that may be written by a running step meanwhile, and never by this connection."""

    def __init__(self, application: Datasette, path: str, queries: tuple[Query, ...], *, is_mutable: bool) -> None:
        super().__init__(application, path=path, is_mutable=is_mutable)
        self.queries = {q.name: q for q in queries}
        self._canned = {q.sql: q for q in queries}

    def connect(self, write: bool = False) -> sqlite3.Connection:
        """A connection that cannot write, whatever it is asked for."""
        connection = cast(sqlite3.Connection, super().connect(write=False))
        connection.execute("pragma query_only = 1")
        return connection

    async def execute(self, sql: str, params: Any = None, *args: Any, **settings: Any) -> Any:
        """As datasette does it; a canned query's parameters mean what `kard query -p` makes of them.

        While one that it needs has no value, it finds nothing: the page is a form then.
        """
        query = self._canned.get(sql)
        if query is not None and isinstance(params, Mapping):
            params = parameters.values(cast("Mapping[str, Any]", params), query.parameters)
            if any(params[name] is None for name in query.required):
                return Results([], False, ())
        settings["log_sql_errors"] = False  # the page shows it
        return await super().execute(sql, params, *args, **settings)

    async def read(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        """What the function reads, within the time that a query may take."""

        def within(connection: sqlite3.Connection) -> Result:
            try:
                with sqlite_timelimit(connection, self.ds.sql_time_limit_ms):
                    return function(connection)
            except sqlite3.OperationalError as error:
                if error.args == ("interrupted",):
                    raise QueryInterrupted(error, "", {}) from error
                raise

        return cast(Result, await self.execute_fn(within))

    async def rows(self, query: str, /, **values: object) -> list[dict[str, Any]]:
        """Return all rows of a named query."""
        statement = sql(query)
        given = dict.fromkeys(query_parameters(query)) | values

        def fetch(connection: sqlite3.Connection) -> list[dict[str, Any]]:
            cursor = connection.execute(statement, given)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        return await self.read(fetch)
