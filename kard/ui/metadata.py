"""What datasette is told of the store: titles, meanings, units, facets, and the canned queries."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from kard.schema import Query, Relation

Metadata = dict[str, Any]

FACETS: Mapping[str, tuple[str, ...]] = {
    "questions": ("task", "split", "kind"),
    "rationales": ("teacher_id", "accepted"),
    "retrievals": ("query",),
    "predictions": ("evaluation_id", "correct"),
    "samples": ("answer", "forced"),
    "students": ("task", "method", "size"),
    "evaluations": ("task", "split", "retriever"),
    "steps_log": ("task", "step"),
}
LABELS: Mapping[str, str] = {
    "questions": "text",
    "passages": "title",
    "teachers": "name",
    "students": "method",
    "rerankers": "base",
    "indexes": "path",
    "evaluations": "retriever",
}
"""The column that stands for a row where another table names it."""

HIDDEN: Metadata = {"_sqlite_migrations": {"hidden": True}}
UNITS: Mapping[str, str] = {"milliseconds": "ms", "seconds": "s"}


def metadata(name: str, file: str, relations: Iterable[Relation], queries: Sequence[Query]) -> Metadata:
    """Metadata of the store `file`, which datasette knows as `name`."""
    about = Markup(
        "<p>Everything that was asked, explained, found, learned and answered, in one SQLite file, read-only. "
        '<a href="/-/kard">Find a question</a> to see its whole trace, or start from a query.</p>'
    )
    ready = [q for q in queries if not q.required]
    asking = [q for q in queries if q.required]
    lists = _list_of(name, ready) + Markup(
        "<details><summary>{} more, which need a value: a task, a question, ...</summary>{}</details>"
    ).format(len(asking), _list_of(name, asking))
    return {
        "title": f"kard: {file}",
        "description_html": str(about + lists),
        "databases": {
            name: {
                "title": file,
                "description": "Tables hold what was kept; views and queries say what it comes to.",
                "tables": {**HIDDEN, **{relation.name: _table(relation) for relation in relations}},
            }
        },
    }


def canned(queries: Iterable[Query]) -> Metadata:
    """The canned queries in datasette's form, by name."""
    return {
        q.name: {"sql": q.sql, "hide_sql": True, "description": q.meaning, "params": list(q.parameters)}
        for q in queries
    }


NEWEST: Mapping[str, str] = {
    "index": "indexes",
    "reranker": "rerankers",
    "retriever": "retrievers",
    "student": "students",
    "evaluation": "evaluations",
}
"""Parameters that take the id of a row: the newest one of its table is the example."""


def examples(connection: sqlite3.Connection) -> dict[str, str]:
    """A value for each parameter that the store can suggest one for: of split and question the most answered."""
    found = {"k": "3", "silver": "3", "samples": "5", "limit": "100", "share": "0.5", "kappa": "100"}
    row = connection.execute(
        "select q.task, q.split, q.id from questions q left join predictions p on p.question_id = q.id "
        "group by q.id order by count(p.id) desc, q.id limit 1"
    ).fetchone()
    if row:
        found |= dict(zip(("task", "split", "question"), map(str, row), strict=True))
    conditions = connection.execute("select id from evaluations order by id limit 2").fetchall()
    found |= {name: str(row[0]) for name, row in zip(("one", "other"), conditions, strict=False)}
    for parameter, table in NEWEST.items():
        if row := connection.execute(f"select id from {table} order by rowid desc limit 1").fetchone():
            found[parameter] = str(row[0])
    return found


def _table(relation: Relation) -> Metadata:
    units = {c.name: UNITS[c.name] for c in relation.columns if c.name in UNITS and not relation.is_view}
    described: Metadata = {
        "description": relation.meaning,
        "columns": {c.name: c.meaning for c in relation.columns if c.meaning},
        "units": units,
        "facets": list(FACETS.get(relation.name, ())),
        "size": 50,
    }
    if label := LABELS.get(relation.name):
        described["label_column"] = label
    return {key: value for key, value in described.items() if value}


def _list_of(name: str, queries: Iterable[Query]) -> Markup:
    """The canned queries as a list of links with what each shows."""
    items = (
        Markup('<li><a href="/{}/{}">{}</a> {}</li>').format(quote(name), q.name, q.name, escape(q.meaning))
        for q in queries
    )
    return Markup('<ul class="bullets kard-queries">') + Markup("").join(items) + Markup("</ul>")
