"""The tables, views and canned queries of a store as records and as data frames, for reading alone."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import namedtuple
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast, overload

from kard.db import parameters, query_names, read_store, required, sql
from kard.errors import BadInput, NoExtra
from kard.schema import Column, Relation, relations

TYPES: Mapping[str, Any] = {"integer": int, "real": float, "text": str}
JSON = "JSON"  # begins the meaning of a column that holds JSON


def connect(store: str | Path) -> Store:
    """Open an existing store for reading. Raises NoStore if there is none."""
    return Store(Path(store))


class Rows(Sequence[Any]):
    """Rows of a table or query: a sequence of named tuples with a field for each column, or a data frame.

    Columns of JSON are lists and dicts in the records, and text, as they are stored, in a frame. `types` gives the
    type of each column whose type is known.
    """

    def __init__(self, name: str, columns: Sequence[Column], values: Sequence[tuple[Any, ...]]) -> None:
        self.columns = [column.name for column in columns]
        self.types = {column.name: type_ for column in columns if (type_ := _type(column)) is not None}
        self.values = values  # as SQLite holds them
        # Names that are no identifiers, or come twice, become _0, _1, ...
        self.record: Any = cast(Any, namedtuple)(name, self.columns, rename=True)
        self.record.__annotations__ = self.types
        self._json = [i for i, column in enumerate(columns) if column.meaning.startswith(JSON)]

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"<{len(self)} rows: {', '.join(self.columns)}>"

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self._record(values) for values in self.values[index]]
        return self._record(self.values[index])

    def pandas(self) -> Any:
        """Return a pandas DataFrame. Raises NoExtra without pandas."""
        return _frames("pandas").DataFrame.from_records(list(self.values), columns=self.columns)

    def polars(self) -> Any:
        """Return a polars DataFrame. Raises NoExtra without polars."""
        return _frames("polars").DataFrame(
            list(self.values), schema=self.columns, orient="row", infer_schema_length=None
        )

    def _record(self, values: Sequence[Any]) -> Any:
        fields = list(values)
        for i in self._json:
            fields[i] = None if fields[i] is None else json.loads(fields[i])
        return self.record(*fields)


class Store:
    """A store that is only read. Threads may share it. Close it after use, or use it in a `with` block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = read_store(path, threads=True)
        self._lock = threading.Lock()
        self._relations: Mapping[str, Relation] = {r.name: r for r in relations(self._connection)}

    @property
    def tables(self) -> list[str]:
        """The names of tables and views."""
        return list(self._relations)

    def table(self, name: str, **equal: object) -> Rows:
        """Return the rows of a table or view whose columns have these values: `table("questions", split="test")`.

        Raises BadInput for a table or a column that is not there.
        """
        if name not in self._relations:
            raise BadInput(f"no table {name!r} in {self.path}; there are {', '.join(self.tables)}")
        columns = self._relations[name].columns
        names = [column.name for column in columns]
        for wrong in equal.keys() - set(names):
            raise BadInput(f"{name} has no column {wrong!r}; it has {', '.join(names)}")
        condition = " and ".join(f'"{column}" is :{column}' for column in equal)
        statement = f'select * from "{name}"' + (f" where {condition}" if condition else "")
        return Rows(name, columns, self._fetch(statement, equal)[1])

    def query(self, query: str, **values: object) -> Rows:
        """Return the rows of a canned query, or of SQL, with these parameters.

        Raises BadInput for SQL that fails, or a parameter that is missing or unknown.
        """
        if query in query_names():
            allowed = parameters(query)
            if wrong := sorted(values.keys() - set(allowed)):
                raise BadInput(f"{query} has no parameter {wrong[0]!r}; it has {', '.join(allowed) or 'none'}")
            if missing := [name for name in required(query) if name not in values]:
                raise BadInput(
                    f"{query} needs {', '.join(missing)}; give it by name: query({query!r}, {missing[0]}=...)"
                )
            values = {**dict.fromkeys(allowed), **values}
            query = sql(query)
        elif len(query.split()) < 2:
            raise BadInput(f"no canned query {query!r}; there are {', '.join(query_names())}, and SQL")
        names, rows = self._fetch(query, values)
        return Rows("Row", [Column(name, "", "") for name in names], rows)

    def close(self) -> None:
        """Close the store."""
        self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fetch(self, statement: str, values: Mapping[str, object]) -> tuple[list[str], list[tuple[Any, ...]]]:
        try:
            with self._lock:
                cursor = self._connection.execute(statement, values)
                return [column[0] for column in cursor.description or ()], [tuple(row) for row in cursor]
        except sqlite3.Error as error:
            raise BadInput(f"SQL: {error}; Store.tables names the tables", at=str(self.path)) from error


def _type(column: Column) -> Any:
    """Return the type of a column's values in records; every column but a key may be None."""
    return Any if column.meaning.startswith(JSON) else TYPES.get(column.type)


def _frames(library: str) -> Any:
    try:
        return import_module(library)
    except ImportError as error:
        raise NoExtra(
            f"a {library} frame needs {library}; install it with: pip install 'kard[{library}]'"
        ) from error
