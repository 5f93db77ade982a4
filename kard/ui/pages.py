"""kard's own pages: the first opens on the report, one finds a question, one shows all that led to its answers."""

from __future__ import annotations

import asyncio
import shlex
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from datasette import NotFound, Response
from datasette.app import Datasette
from datasette.database import QueryInterrupted
from datasette.utils.asgi import Request
from markupsafe import escape

from kard.db import rows
from kard.errors import BadInput, NoExtra
from kard.evaluation.failures import Failure
from kard.evaluation.page.write import Summary, read_summary, render_summary
from kard.evaluation.trace import Trace, TracedPassage, TracedRanking, trace
from kard.records import LETTERS, Passage
from kard.schema import relations
from kard.ui.database import Store, parse_value, store_of
from kard.ui.guard import ROOT

if TYPE_CHECKING:
    from sqlite_utils import Database

FILTERS = ("task", "split", "wrong_in", "text")
PAGE = 50  # questions
SHORT = 8  # characters of an id: the commands take the beginning of one
UNFOLDED = 10  # passages of a list that are shown before the rest is folded away
WRONG = 10  # questions that went wrong, on the first page
_drawing = threading.Lock()  # matplotlib's settings belong to the whole process


async def home_page(datasette: Datasette, request: Request) -> Response:
    """Return the first page: the report of a split, its questions that went wrong, tables, queries.

    A store without answers says what it holds and which command comes next.
    """
    store = store_of(datasette)
    splits = await store.read(lambda db: rows(db, "internal/answered_splits"))
    asked = (request.args.get("task"), request.args.get("split"))
    chosen = next((row for row in splits if (row["task"], row["split"]) == asked), splits[0] if splits else None)
    context: dict[str, Any] = {"splits": splits, "chosen": chosen, "contents": [], "absent": "", "wrong": []}
    if chosen:
        task, split = str(chosen["task"]), str(chosen["split"])
        context["command"] = f"kard report {shlex.quote(task)} --split {shlex.quote(split)} --html report.html"
        try:
            context["report"], context["wrong"] = await _opening(store, task, split)
        except QueryInterrupted:
            context["absent"] = "There are too many answers to read them here."
    else:
        context["contents"] = await store.read(lambda db: rows(db, "internal/contents"))
        tasks = list(dict.fromkeys(str(row["task"]) for row in context["contents"]))
        context["command"] = f"kard run {shlex.quote(tasks[0])}" if tasks else "kard load TASK FILE"
    context["command"] += f" --store {shlex.quote(store.typed)}"
    context["tables"] = await store.read(lambda db: relations(db.conn))
    context["queries"] = list(store.queries.values())
    return await _render(datasette, request, "kard_home.html", context)


async def _opening(store: Store, task: str, split: str) -> tuple[str, list[dict[str, Any]]]:
    """Return a split's report as HTML and its questions that went wrong, made again only when the store changed."""
    state = (task, split, *store.state)
    if store.opening is None or store.opening[0] != state:
        summary = await store.read(lambda db: read_summary(db, task, split))
        wrong = await store.read(lambda db: _wrong_questions(db, summary))
        store.opening = state, (await asyncio.to_thread(_draw, summary), wrong)
    return store.opening[1]


def _draw(summary: Summary) -> str:
    try:
        with _drawing:
            return render_summary(summary)
    except NoExtra as error:
        return f"<p>{escape(str(error))}</p>"


def _wrong_questions(db: Database, summary: Summary) -> list[dict[str, Any]]:
    """Return the questions that most conditions answered wrongly, with their commonest verdict."""
    failures: dict[int, list[Failure]] = defaultdict(list)
    for failure in summary.failures:
        failures[failure.question_id].append(failure)
    first = sorted(failures.items(), key=lambda item: (-len(item[1]), item[0]))[:WRONG]
    answers = Counter(answer.key for answer in summary.graded)
    return [
        {
            "id": id,
            "text": db.execute("select text from questions where id = ?", [id]).fetchone()[0],
            "key": of_question[0].key,
            "wrong": len(of_question),
            "answers": answers[of_question[0].key],
            "verdict": Counter(failure.verdict for failure in of_question).most_common(1)[0][0],
        }
        for id, of_question in first
    ]


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
