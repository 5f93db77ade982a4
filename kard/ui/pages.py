"""What kard's own pages share: the store behind them, and one way to answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasette import Response
from datasette.app import Datasette
from datasette.utils.asgi import Request

from kard.ui.database import Store


def store_of(datasette: Datasette) -> Store:
    """The one store that is served. Raises LookupError when there is none."""
    for database in datasette.databases.values():
        if isinstance(database, Store):
            return database
    raise LookupError("no store is served")


async def answer(datasette: Datasette, request: Request, template: str, context: Mapping[str, Any]) -> Response:
    """A page of kard's: its template with the store's name beside what it shows."""
    store = store_of(datasette)
    whole = {**context, "database": store.name, "metadata": {}, "private": False}
    return Response.html(await datasette.render_template(template, whole, request=request, view_name="kard"))
