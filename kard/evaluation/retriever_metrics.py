"""Every order of a split's passages and what the questions need, out of the store, and the table of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kard.db import batches, marks, rows
from kard.errors import Missing
from kard.evaluation.export import retriever_names
from kard.evaluation.report import RETRIEVER_ORDER
from kard.metrics.ranking import Difference, Floats, Need, measured, metrics, paired
from kard.records import Passage

if TYPE_CHECKING:
    from sqlite_utils import Database

SILVER = 3  # a rationale's first passages count as needed (the paper's Hits@k)
SOURCES = ("evidence", "silver")
BM25 = "bm25"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a passage stands in an order."""

    passage: str
    rank: int  # 1 is best
    score: float  # compares only within the order


@dataclass(frozen=True, slots=True)
class RankedQuestion:
    """A question with its orders by retriever and its needs by source; a source that names nothing is absent."""

    id: int
    key: str
    text: str
    orders: Mapping[str, Sequence[Place]]
    needs: Mapping[str, Need]


@dataclass(frozen=True, slots=True)
class Shown:
    """A place with what a reader asks of it."""

    rank: int
    score: float
    bm25_rank: int | None  # None for a passage that BM25 did not find among the first kappa
    bm25: float | None
    needed: tuple[str, ...]  # 'evidence', 'silver'
    passage: str


@dataclass(frozen=True, slots=True)
class RetrieverRow:
    """What one retriever finds over the questions that have both it and the need."""

    source: str
    retriever: str
    questions: int
    values: Sequence[float]  # in the order of `metrics`
    against: Sequence[Difference] | None  # to another retriever on the same questions, None for that one itself


def read_orders(
    db: Database,
    task: str,
    split: str,
    index_id: str,
    *,
    kappa: int,
    question: int | None = None,
    limit: int | None = None,
    experiments: bool = False,
) -> list[RankedQuestion]:
    """The questions of a split (or one of them) that were searched with on this index.

    Orders count among the first `kappa`. Retrievers are named as people call them, with an id where several of a
    kind are in the store; rerankers of `kard ablate` count only with `experiments`.
    """
    given: dict[str, object] = {
        "task": task,
        "split": split,
        "index": index_id,
        "kappa": kappa,
        "question": question,
        "limit": -1 if limit is None else limit,
        "silver": SILVER,
        "experiments": experiments,
    }
    orders: dict[int, dict[str, list[Place]]] = {}
    for row in rows(db, "orders", **given):
        of_question = orders.setdefault(int(str(row["question_id"])), {})
        place = Place(str(row["passage_id"]), int(str(row["rank"])), float(str(row["score"])))
        of_question.setdefault(str(row["retriever"]), []).append(place)
    names = retriever_names(sorted({name for of_question in orders.values() for name in of_question}))
    units: dict[tuple[int, str], dict[str, str]] = {}
    for row in rows(db, "needed", **given):
        key = (int(str(row["question_id"])), str(row["source"]))
        units.setdefault(key, {})[str(row["passage_id"])] = str(row["unit"])
    return [
        RankedQuestion(
            key,
            name,
            text,
            {names[label]: places for label, places in orders[key].items()},
            {source: Need(units[key, source]) for source in SOURCES if (key, source) in units},
        )
        for key, name, text in _questions(db, list(orders))
    ]


def _questions(db: Database, ids: Sequence[int]) -> list[tuple[int, str, str]]:
    found: list[tuple[int, str, str]] = []
    for some in batches(ids):
        query = f"select id, key, text from questions where id in ({marks(some)}) order by id"
        found.extend((int(i), str(key), str(text)) for i, key, text in db.execute(query, list(some)))
    return sorted(found)


def passages_of(db: Database, ids: Sequence[str]) -> dict[str, Passage]:
    """The passages with these ids, from the store."""
    found: dict[str, Passage] = {}
    for some in batches(ids):
        query = f"select id, document, part, title, text from passages where id in ({marks(some)})"
        found.update((row[0], Passage(*row)) for row in db.execute(query, list(some)))
    return found


def retrievers_in(asked: Sequence[RankedQuestion]) -> list[str]:
    """Every retriever that ordered any question, in the order of reports."""
    there = {name for question in asked for name in question.orders}
    return sorted(there, key=lambda name: (RETRIEVER_ORDER.index(name.partition(" ")[0]), name))


def one_of(asked: Sequence[RankedQuestion], wanted: str | None, current: str | None) -> str:
    """The retriever that a person means: by its name, or by its kind where one of the kind is `current`.

    Without a wish it is the reranker, else the last there is. Raises Missing.
    """
    there = retrievers_in(asked)
    meant = [name for name in (wanted or "reranker", f"{wanted or 'reranker'} {current}") if name in there]
    if meant:
        return meant[0]
    if wanted is None:
        return there[-1]
    raise Missing(f"no order by {wanted!r} of these questions; there are {', '.join(there)}")


def shown(asked: RankedQuestion, name: str, depth: int) -> list[Shown]:
    """The first `depth` places of a retriever's order; none when it has not ordered this question."""
    words = {place.passage: place for place in asked.orders.get(BM25, ())}
    return [
        Shown(
            place.rank,
            place.score,
            words[place.passage].rank if place.passage in words else None,
            words[place.passage].score if place.passage in words else None,
            tuple(source for source, need in asked.needs.items() if place.passage in need.units),
            place.passage,
        )
        for place in asked.orders.get(name, ())[:depth]
    ]


def summary(asked: Sequence[RankedQuestion], kappa: int, against: str = BM25) -> list[RetrieverRow]:
    """A line for each source of needs and retriever, over the questions that the retriever has ordered.

    Differences are to `against`, over the questions that it has ordered too.
    """
    lines: list[RetrieverRow] = []
    for source in SOURCES:
        judged = [question for question in asked if source in question.needs]
        for name in retrievers_in(asked):
            ordered = [question for question in judged if name in question.orders]
            if not ordered:
                continue
            ours = _table(ordered, name, source, kappa)
            differences = None
            if name != against:
                both = np.array([against in question.orders for question in ordered])
                theirs = _table([q for q in ordered if against in q.orders], against, source, kappa)
                differences = paired(ours[both], theirs) if both.any() else None
            lines.append(RetrieverRow(source, name, len(ordered), ours.mean(axis=0).tolist(), differences))
    return lines


def _table(asked: Sequence[RankedQuestion], name: str, source: str, kappa: int) -> Floats:
    found = [
        measured([p.passage for p in question.orders[name]], question.needs[source], kappa) for question in asked
    ]
    return np.array(found).reshape(len(found), len(metrics(kappa)))
