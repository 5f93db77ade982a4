"""kard's part of datasette: its pages, its canned queries, links to traces, and the guard before everything."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any

from datasette import Response, hookimpl
from datasette.app import Datasette
from datasette.database import QueryInterrupted
from datasette.utils.asgi import Base400, Request
from datasette.views.base import DatasetteError
from markupsafe import Markup

from kard.ui import find, guard, question
from kard.ui.database import Store
from kard.ui.guard import OWN, Application, inert
from kard.ui.metadata import canned, examples
from kard.ui.pages import store_of
from kard.ui.parameters import filled


@hookimpl
def register_routes() -> list[tuple[str, Callable[..., Any]]]:
    """The page that finds questions, and the page of one."""
    return [
        (rf"^{OWN}$", find.page),
        (rf"^{OWN}/question/(?P<id>\d{{1,18}})$", question.page),
    ]


@hookimpl
def canned_queries(datasette: Datasette, database: str) -> dict[str, Any]:
    """The queries of store/queries."""
    store = datasette.databases.get(database)
    return canned(store.queries.values()) if isinstance(store, Store) else {}


@hookimpl
def menu_links() -> list[dict[str, str]]:
    """The menu at the top right of every page."""
    return [{"href": OWN, "label": "Find a question"}]


@hookimpl
def extra_css_urls() -> list[str]:
    """A style sheet for kard's pages, which also keeps datasette's within a narrow screen."""
    return [f"{OWN}/static/kard.css"]


@hookimpl
def render_cell(row: Any, value: object, column: str, table: str | None) -> Markup | None:
    """A link to the trace, where a cell names a question."""
    if table == "questions" and column == "key":
        return _trace_link(row["id"], value)
    if column == "question_id":
        return _trace_link(value, value)
    return None


def _trace_link(number: object, label: object) -> Markup | None:
    if not isinstance(number, int):
        return None
    return Markup('<a class="trace" href="{}/question/{}">{}</a>').format(OWN, number, label)


@hookimpl
def asgi_wrapper(datasette: Datasette) -> Callable[[Application], Application]:
    """Canned queries open with their form filled in; the guard stands before everything."""

    def wrap(application: Application) -> Application:
        async def with_examples(scope: Any, receive: Any, send: Any) -> None:
            target = None
            if scope["type"] == "http" and scope["method"] == "GET" and not scope.get("query_string"):
                target = await _with_examples(datasette, scope["path"])
            if target is None:
                await application(scope, receive, send)
            else:
                await Response.redirect(target).asgi_send(send)

        return guard.guarded(with_examples)

    return wrap


async def _with_examples(datasette: Datasette, path: str) -> str | None:
    """Where a canned query leads that was asked without the values it needs: to itself with examples of them."""
    store = store_of(datasette)
    base, _, name = path.rpartition("/")
    query = store.queries.get(name)
    if query is None or not query.required or base != datasette.urls.database(store.name):
        return None
    return f"{path}?{filled(query.parameters, query.required, await store.read(examples))}"


@hookimpl(tryfirst=True)
def handle_exception(datasette: Datasette, request: Request, exception: Exception) -> Any:
    """A page with the message. datasette's own would print local variables, which hold untrusted text."""

    async def page() -> Response:
        status, title = 500, ""
        message = "Something went wrong here; the terminal that runs `kard ui` shows what."
        if isinstance(exception, QueryInterrupted) or getattr(exception, "title", "") == "SQL Interrupted":
            status, title = 400, "Too long"
            message = f"It took more than {(datasette.sql_time_limit_ms or 0) / 1000:g} s and was stopped."
        elif isinstance(exception, DatasetteError):
            status, title, message = exception.status, exception.title or "", str(exception.message)
        elif isinstance(exception, Base400):
            status, message = exception.status, str(exception)
        else:
            sys.stderr.write(inert("".join(traceback.format_exception(exception))))
        if request.path.endswith(".json"):
            return Response.json({"ok": False, "error": message, "status": status, "title": title}, status=status)
        context = {"status": status, "error": message, "title": title or f"Error {status}"}
        return Response.html(await datasette.render_template("error.html", context, request=request), status=status)

    return page
