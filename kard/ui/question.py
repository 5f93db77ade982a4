"""The page of one question: all that led to each answer it was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from datasette import NotFound, Response
from datasette.app import Datasette
from datasette.utils.asgi import Request
from sqlite_utils import Database

from kard.errors import BadInput
from kard.evaluation.trace import Place, Ranking, Trace, trace
from kard.records import LETTERS, Passage
from kard.ui.guard import OWN
from kard.ui.pages import answer, store_of

SHORT = 8  # characters of an id: the commands take the beginning of one
FIRST = 10  # places of a list that are shown before the rest is folded away


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of passages as the page shows it."""

    title: str
    note: str
    places: Sequence[Place]
    needed: frozenset[str]  # ids of the passages that a right answer rests on
    absent: Sequence[Passage]  # those of them that the list lacks

    @property
    def ranks(self) -> list[int]:
        """Where the needed passages stand."""
        return [place.rank for place in self.places if place.passage_id in self.needed]


async def page(datasette: Datasette, request: Request) -> Response:
    """The trace of the question that the address names. Raises NotFound."""
    number = int(request.url_vars["id"])
    try:
        found = await store_of(datasette).read(lambda connection: trace(Database(connection), number))
    except BadInput as error:
        raise NotFound(str(error)) from error
    context = {
        "trace": found,
        "question": found.question,
        "options": dict(zip(LETTERS, found.question.options, strict=False)),
        "lists": listed(found),
        "first": FIRST,
        "own": OWN,
    }
    return await answer(datasette, request, "kard_question.html", context)


def listed(found: Trace) -> list[Listed]:
    """The question's own list, then those of rerankers and others, then each rationale's; newest index first."""

    def place(ranking: Ranking) -> tuple[int, int]:
        kinds = {"question": 0, "reranker": 1, "rationale": 3}
        return found.indexes.index(ranking.index_id), kinds.get(ranking.kind, 2)

    return [_listed(found, ranking) for ranking in sorted(found.rankings, key=place)]


def _listed(found: Trace, ranking: Ranking) -> Listed:
    on = f", index {ranking.index_id[:SHORT]}" if len(found.indexes) > 1 else ""
    need = found.needs.get(ranking.index_id)
    needed = need.passages if need else frozenset[str]()
    places = {place.passage_id for place in ranking.places}
    absent = [found.passages[i] for i in sorted(needed - places) if i in found.passages]
    return Listed(_title(ranking), f"{len(ranking.places)} passages{on}", ranking.places, needed, absent)


def _title(ranking: Ranking) -> str:
    if ranking.kind == "question":
        return "BM25 by the question"
    if ranking.kind == "rationale":
        return f"BM25 by rationale {ranking.rationale_id}"
    return f"{ranking.kind.capitalize()} {(ranking.retriever_id or ranking.reranker_id or '')[:SHORT]}"
