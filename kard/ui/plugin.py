"""kard as a plugin of datasette: its pages, canned queries, links to traces, and the guard before everything."""

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

from kard.outgoing import inert
from kard.ui.database import Store, canned, example_parameters, store_of
from kard.ui.guard import READING, ROOT, Application, guarded
from kard.ui.pages import find_page, home_page, question_page


@hookimpl
def register_routes() -> list[tuple[str, Callable[..., Any]]]:
    """Return the routes of the first page, of the page that finds a question and of the page that shows one."""
    return [
        (r"^/$", home_page),
        (rf"^{ROOT}$", find_page),
        (rf"^{ROOT}/question/(?P<id>\d{{1,18}})$", question_page),
    ]


@hookimpl
def canned_queries(datasette: Datasette, database: str) -> dict[str, Any]:
    """Return the queries of store/queries."""
    store = datasette.databases.get(database)
    return canned(store.queries.values()) if isinstance(store, Store) else {}


@hookimpl
def menu_links() -> list[dict[str, str]]:
    """Return the menu at the top right of every page."""
    return [{"href": ROOT, "label": "Find a question"}]


@hookimpl
def extra_css_urls() -> list[str]:
    """Return the style sheet of kard's pages, which also keeps datasette's within a narrow screen."""
    return [f"{ROOT}/static/kard.css"]


@hookimpl
def render_cell(row: Any, value: object, column: str, table: str | None) -> Markup | None:
    """Return a link to the trace if the cell names a question."""
    if table == "questions" and column == "key":
        return _trace_link(row["id"], value)
    if column == "question_id":
        return _trace_link(value, value)
    return None


def _trace_link(number: object, label: object) -> Markup | None:
    if not isinstance(number, int):
        return None
    return Markup('<a class="trace" href="{}/question/{}">{}</a>').format(ROOT, number, label)


@hookimpl
def asgi_wrapper(datasette: Datasette) -> Callable[[Application], Application]:
    """Open canned queries with their form filled in, and put the guard before everything."""

    def wrap(application: Application) -> Application:
        async def redirect_to_examples(scope: Any, receive: Any, send: Any) -> None:
            address = None
            if scope["type"] == "http" and scope["method"] == "GET" and not scope.get("query_string"):
                address = await _with_examples(datasette, scope["path"])
            if address is None:
                await application(scope, receive, send)
            else:
                await Response.redirect(address).asgi_send(send)

        return guarded(redirect_to_examples, methods=READING)

    return wrap


async def _with_examples(datasette: Datasette, path: str) -> str | None:
    """Return the address of a canned query with examples of its required values, None for other pages."""
    store = store_of(datasette)
    base, _, name = path.rpartition("/")
    query = store.queries.get(name)
    if query is None or not query.required or base != datasette.urls.database(store.name):
        return None
    return f"{path}?{await store.read(lambda db: example_parameters(db, query))}"


@hookimpl(tryfirst=True)
def handle_exception(datasette: Datasette, request: Request, exception: Exception) -> Any:
    """Return a page with the message. datasette's own prints local variables, which hold untrusted text."""

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
