"""kard's own pages: one finds a question, one shows all that led to each answer that it was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from datasette import NotFound, Response
from datasette.app import Datasette
from datasette.utils.asgi import Request

from kard.db import rows
from kard.errors import BadInput
from kard.evaluation.trace import Trace, TracedPassage, TracedRanking, trace
from kard.records import LETTERS, Passage
from kard.ui.database import parse_value, store_of
from kard.ui.guard import ROOT

FILTERS = ("task", "split", "wrong_in", "text")
PAGE = 50  # questions
SHORT = 8  # characters of an id: the commands take the beginning of one
UNFOLDED = 10  # passages of a list that are shown before the rest is folded away


async def find_page(datasette: Datasette, request: Request) -> Response:
    """Return the page of filters and the questions that pass them, PAGE at a time."""
    store = store_of(datasette)
    fields = {name: (request.args.get(name) or "").strip() for name in FILTERS}
    start = parse_value(request.args.get("from") or "0")
    start = max(0, start) if isinstance(start, int) else 0
    values: dict[str, Any] = {name: fields[name] or None for name in ("task", "split", "text")}
    values["wrong_in"] = parse_value(fields["wrong_in"])
    questions = await store.read(
        lambda db: rows(db, "internal/find_questions", **values, limit=PAGE + 1, offset=start)
    )
    splits = await store.read(
        lambda db: db.execute("select distinct task, split from questions order by task, split").fetchall()
    )
    context = {
        "fields": fields,
        "tasks": list(dict.fromkeys(str(task) for task, _ in splits)),
        "splits": list(dict.fromkeys(str(split) for _, split in splits)),
        "conditions": await store.read(lambda db: rows(db, "conditions")),
        "questions": questions[:PAGE],
        "first": start + 1,
        "last": start + min(len(questions), PAGE),
        "earlier": _address(fields, max(0, start - PAGE)) if start else None,
        "later": _address(fields, start + PAGE) if len(questions) > PAGE else None,
    }
    return await _render(datasette, request, "kard_find.html", context)


def _address(fields: dict[str, str], start: int) -> str:
    return f"{ROOT}?{urlencode({**{name: text for name, text in fields.items() if text}, 'from': start})}"


async def question_page(datasette: Datasette, request: Request) -> Response:
    """Return the page of the question that the address names. Raises NotFound."""
    number = int(request.url_vars["id"])
    try:
        traced = await store_of(datasette).read(lambda db: trace(db, number))
    except BadInput as error:
        raise NotFound(str(error)) from error
    context = {
        "trace": traced,
        "question": traced.question,
        "options": dict(zip(LETTERS, traced.question.options, strict=False)),
        "rankings": shown_rankings(traced),
        "unfolded": UNFOLDED,
    }
    return await _render(datasette, request, "kard_question.html", context)


@dataclass(frozen=True, slots=True)
class ShownRanking:
    """A ranking as the page shows it."""

    title: str
    note: str
    places: Sequence[TracedPassage]
    needed: frozenset[str]  # ids of the passages that a right answer rests on
    absent: Sequence[Passage]  # needed ones that the list lacks

    @property
    def ranks(self) -> list[int]:
        """Return the ranks of the needed passages."""
        return [place.rank for place in self.places if place.passage_id in self.needed]


def shown_rankings(traced: Trace) -> list[ShownRanking]:
    """Return the rankings, newest index first: the question's own, then rerankers' and others, then rationales'."""

    def order(ranking: TracedRanking) -> tuple[int, int]:
        kinds = {"question": 0, "reranker": 1, "rationale": 3}
        return traced.indexes.index(ranking.index_id), kinds.get(ranking.kind, 2)

    return [_shown(traced, ranking) for ranking in sorted(traced.rankings, key=order)]


def _shown(traced: Trace, ranking: TracedRanking) -> ShownRanking:
    index = f", index {ranking.index_id[:SHORT]}" if len(traced.indexes) > 1 else ""
    need = traced.needs.get(ranking.index_id)
    needed = need.passages if need else frozenset[str]()
    ranked = {place.passage_id for place in ranking.places}
    absent = [traced.passages[i] for i in sorted(needed - ranked) if i in traced.passages]
    note = f"{len(ranking.places)} passages{index}"
    return ShownRanking(_title(ranking), note, ranking.places, needed, absent)


def _title(ranking: TracedRanking) -> str:
    if ranking.kind == "question":
        return "BM25 by the question"
    if ranking.kind == "rationale":
        return f"BM25 by rationale {ranking.rationale_id}"
    return f"{ranking.kind.capitalize()} {(ranking.retriever_id or ranking.reranker_id or '')[:SHORT]}"


async def _render(datasette: Datasette, request: Request, template: str, context: Mapping[str, Any]) -> Response:
    whole = {
        **context,
        "root": ROOT,
        "database": store_of(datasette).name,
        "metadata": {},
        "private": False,
    }
    return Response.html(await datasette.render_template(template, whole, request=request, view_name="kard"))
