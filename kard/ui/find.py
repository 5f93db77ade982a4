"""The page that finds a question: by task, split, a condition that got it wrong, or words of it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from datasette import Response
from datasette.app import Datasette
from datasette.utils.asgi import Request

from kard.ui import parameters
from kard.ui.guard import OWN
from kard.ui.pages import answer, store_of

FIELDS = ("task", "split", "wrong_in", "text")
PAGE = 50  # questions


async def page(datasette: Datasette, request: Request) -> Response:
    """Filters, and the questions that pass them, a page at a time."""
    store = store_of(datasette)
    typed = {name: (request.args.get(name) or "").strip() for name in FIELDS}
    start = parameters.value(request.args.get("from") or "0")
    start = max(0, start) if isinstance(start, int) else 0
    conditions = await store.rows("conditions")
    splits = await store.read(
        lambda c: c.execute("select task, split, count(*) from questions group by 1, 2 order by 1, 2").fetchall()
    )
    given: dict[str, Any] = {name: typed[name] or None for name in ("task", "split", "text")}
    given["wrong_in"] = parameters.value(typed["wrong_in"])
    found = await store.rows("internal/find_questions", **given, limit=PAGE + 1, offset=start)
    context = {
        "typed": typed,
        "own": OWN,
        "tasks": list(dict.fromkeys(str(s[0]) for s in splits)),
        "splits": list(dict.fromkeys(str(s[1]) for s in splits)),
        "conditions": conditions,
        "questions": found[:PAGE],
        "first": start + 1,
        "last": start + min(len(found), PAGE),
        "earlier": _turn(typed, max(0, start - PAGE)) if start else None,
        "later": _turn(typed, start + PAGE) if len(found) > PAGE else None,
    }
    return await answer(datasette, request, "kard_find.html", context)


def _turn(typed: dict[str, str], start: int) -> str:
    return f"{OWN}?{urlencode({**{k: v for k, v in typed.items() if v}, 'from': start})}"
