"""How well each retriever finds what questions need: every stored order of passages, Hits@k and the like, a plot.

A question needs the documents that its data name as evidence, or the first passages that a rationale finds
(silver).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kard.config import CUTOFFS
from kard.db import rows
from kard.errors import BadInput, Missing, NoExtra
from kard.evaluation.condition_names import RETRIEVER_ORDER, SHORT, index_dates
from kard.evaluation.report import TableCells
from kard.metrics.bootstrap import Difference, paired_bootstrap
from kard.metrics.intervals import wilson
from kard.metrics.ranking import Floats, RelevantPassages, first_ranks, metric_names, ranking_metrics
from kard.questions import QuestionSet

if TYPE_CHECKING:
    from sqlite_utils import Database

BM25 = "bm25"
HITS_CUTOFFS = (*CUTOFFS, 100)  # of the table of first hits
Gold = tuple[str, str | None, str | None, str | None]
"""What says what is needed: 'evidence', or 'silver' with its teacher, rule of acceptance and form of the query."""
PLOT_SUFFIXES = (".svg", ".png")
PLOT_DEPTH = 20  # ranks that are drawn: no student reads more passages
PLOT_TICKS = (*CUTOFFS, 15, 20)


@dataclass(frozen=True, slots=True)
class RankedPassage:
    """A passage of an order."""

    passage: str  # id
    rank: int  # 1 is best
    score: float  # comparable only within the order


@dataclass(frozen=True, slots=True)
class RankedQuestion:
    """A question with its order of passages by retriever and its relevant passages by source (see `gold_names`).

    A source that names nothing for the question is absent.
    """

    id: int
    key: str
    text: str
    orders: Mapping[str, Sequence[RankedPassage]]
    relevant: Mapping[str, RelevantPassages]

    def ids(self, retriever: str) -> list[str]:
        """Return the passages of an order by rank, '' for one that was not read."""
        ranks = {ranked.rank: ranked.passage for ranked in self.orders[retriever]}
        return [ranks.get(rank, "") for rank in range(1, max(ranks, default=0) + 1)]


@dataclass(frozen=True, slots=True)
class OrderRow:
    """A passage of an order beside its place in BM25's order."""

    rank: int
    score: float
    bm25_rank: int | None  # None if it is not among BM25's first kappa
    bm25: float | None
    needed: tuple[str, ...]  # 'evidence', 'silver'
    passage: str


@dataclass(frozen=True, slots=True)
class RetrieverRow:
    """The metrics of a retriever over the questions that it ranked and for which the source names passages."""

    source: str
    retriever: str
    questions: int
    ceiling: float  # share of what is needed that the knowledge base holds, mean over questions: the highest recall
    values: Sequence[float]  # in the order of `metric_names`
    against: Sequence[Difference] | None  # to another retriever on the same questions; None for that one itself


def read_orders(
    db: Database,
    questions: QuestionSet,
    index_id: str,
    *,
    kappa: int,
    question: int | None = None,
    experiments: bool = False,
    needed_only: bool = False,
) -> list[RankedQuestion]:
    """Return the questions, or only the one with id `question`, that have been searched with on this index.

    Each order has at most `kappa` passages; with `needed_only`, of these the first and those that the question
    needs. Only questions that were searched with in the form and with the max_df of the last one count. A retriever
    is called by its kind, with its id if several of the kind are in the store.
    Rerankers of `kard ablate` are included only with `experiments`.
    """
    parameters: dict[str, object] = {
        **questions.parameters,
        "index": index_id,
        "kappa": kappa,
        "question": question,
        "experiments": experiments,
        "needed": needed_only,
    }
    orders: dict[int, dict[str, list[RankedPassage]]] = defaultdict(lambda: defaultdict(list))
    for row in rows(db, "internal/passage_orders", **parameters):
        passage = RankedPassage(row["passage_id"], row["rank"], row["score"])
        orders[row["question_id"]][row["retriever"]].append(passage)
    needed = rows(db, "internal/needed_passages", **parameters)
    sources = gold_names(_gold(row["source"], row) for row in needed)
    units: dict[int, dict[str, dict[str, str]]] = defaultdict(lambda: {name: {} for name in sources.values()})
    missing: Counter[tuple[int, str]] = Counter()
    for row in needed:
        source = sources[_gold(row["source"], row)]
        if row["passage_id"] is None:
            missing[row["question_id"], source] += 1
        else:
            units[row["question_id"]][source][row["passage_id"]] = row["unit"]
    names = retriever_names(sorted({label for by_label in orders.values() for label in by_label}))
    return [
        RankedQuestion(
            id,
            stored.key,
            stored.text,
            {names[label]: passages for label, passages in orders[id].items()},
            {
                source: RelevantPassages(units[id][source], missing[id, source])
                for source in sources.values()
                if units[id][source] or missing[id, source]
            },
        )
        for id, stored in QuestionSet(questions.task, questions.split).read(db).items()
        if id in orders
    ]


def gold_names(golds: Iterable[Gold]) -> dict[Gold, str]:
    """Return a name for each gold: its source, and what differs among golds of that source.

    Evidence has no teacher. Silver passages of several teachers, rules or queries are never mixed.
    """
    names: dict[Gold, str] = {}
    several: dict[str, list[bool]] = {}
    golds = sorted(set(golds), key=lambda gold: tuple(str(part or "") for part in gold))
    for source in {gold[0] for gold in golds}:
        several[source] = [len(set(parts)) > 1 for parts in zip(*(g for g in golds if g[0] == source), strict=True)]
    for gold in golds:
        _, teacher, *rest = [
            part if differs else None for part, differs in zip(gold, several[gold[0]], strict=True)
        ]
        words = ", ".join(part for part in rest if part)
        names[gold] = gold[0] + (f" by {teacher}" if teacher else "") + (f" ({words})" if words else "")
    return names


def retriever_names(labels: Iterable[str]) -> dict[str, str]:
    """Return a name for each retriever label of the store: its kind, with its id if several are of that kind.

    A label is 'bm25', a reranker's id, or 'fused', 'dense' or 'hybrid' with the retriever's id.
    """
    kinds = {label: label.partition(" ")[0] if " " in label or label == BM25 else "reranker" for label in labels}
    counts = Counter(kinds.values())
    return {
        label: kind if counts[kind] == 1 else f"{kind} {label.rpartition(' ')[2]}" for label, kind in kinds.items()
    }


def sources_of(questions: Iterable[RankedQuestion]) -> list[str]:
    """Return the sources that name what any of the questions needs, in alphabetical order."""
    return sorted({source for question in questions for source in question.relevant})


def retrievers_in(questions: Sequence[RankedQuestion]) -> list[str]:
    """Return the names of all retrievers that ranked any of the questions, in the order of reports."""
    names = {name for question in questions for name in question.orders}
    return sorted(names, key=lambda name: (RETRIEVER_ORDER.index(name.partition(" ")[0]), name))


def choose_retriever(questions: Sequence[RankedQuestion], name: str | None, current: str | None) -> str:
    """Return the retriever of that name, or of that kind with the id `current`.

    Without a name it is the reranker, else the last retriever there is. Raises Missing if none has the name.
    """
    retrievers = retrievers_in(questions)
    kind = name or "reranker"
    for candidate in (kind, f"{kind} {current}"):
        if candidate in retrievers:
            return candidate
    if name is None:
        return retrievers[-1]
    raise Missing(f"no order by {name!r} of these questions; there are {', '.join(retrievers)}")


def order_rows(question: RankedQuestion, retriever: str, depth: int) -> list[OrderRow]:
    """Return the first `depth` passages of a retriever's order, [] if it has not ranked the question."""
    bm25 = {passage.passage: passage for passage in question.orders.get(BM25, ())}
    return [
        OrderRow(
            ranked.rank,
            ranked.score,
            bm25[ranked.passage].rank if ranked.passage in bm25 else None,
            bm25[ranked.passage].score if ranked.passage in bm25 else None,
            tuple(source for source, relevant in question.relevant.items() if ranked.passage in relevant.units),
            ranked.passage,
        )
        for ranked in question.orders.get(retriever, ())[:depth]
    ]


def retriever_rows(questions: Sequence[RankedQuestion], kappa: int, against: str = BM25) -> list[RetrieverRow]:
    """Return a row for each source and retriever, over the questions that the retriever ranked.

    Differences are to the retriever `against`, over the questions that both ranked.
    """
    report: list[RetrieverRow] = []
    for source in sources_of(questions):
        for name in retrievers_in(questions):
            ranked = _ranked(questions, name, source)
            if not ranked:
                continue
            ours = _metrics(ranked, name, source, kappa)
            differences = None
            if name != against:
                both = np.array([against in question.orders for question in ranked])
                theirs = _metrics(_ranked(ranked, against, source), against, source, kappa)
                differences = paired_bootstrap(ours[both], theirs) if both.any() else None
            ceiling = fmean(question.relevant[source].ceiling for question in ranked)
            report.append(RetrieverRow(source, name, len(ranked), ceiling, ours.mean(axis=0).tolist(), differences))
    return report


def _ranked(questions: Sequence[RankedQuestion], retriever: str, source: str) -> list[RankedQuestion]:
    return [question for question in questions if source in question.relevant and retriever in question.orders]


def _metrics(questions: Sequence[RankedQuestion], retriever: str, source: str, kappa: int) -> Floats:
    """Return the metrics of the retriever, (Q questions, M metrics)."""
    values = [ranking_metrics(question.ids(retriever), question.relevant[source], kappa) for question in questions]
    return np.array(values).reshape(len(values), len(metric_names(kappa)))


def hits_table(first_hits: Sequence[Mapping[str, Any]], *, narrow: bool = False) -> TableCells:
    """Return the share of questions whose first needed passage is among the first k, for each of `hits_groups`.

    If rows have `depth`, cells beyond the depth of the search stay empty. If they have `needed` and `held`, the
    ceiling is the share of what is needed that the knowledge base holds, mean over questions. `narrow` has two
    decimals, and no interval for the largest k.
    """
    groups = hits_groups(first_hits)
    depths = {group: min(row.get("depth", HITS_CUTOFFS[-1]) for row in hits) for group, hits in groups.items()}
    cutoffs = [k for k in HITS_CUTOFFS if k <= max(depths.values(), default=HITS_CUTOFFS[-1])]
    several = [len({group[i] for group in groups}) > 1 for i in (1, 2)]
    with_ceiling = bool(first_hits) and all("held" in row for row in first_hits)
    dated = any(row.get("documents") for row in first_hits)
    states = "documents" if dated else "index"
    where = [name for name, shown in zip((states, "query"), several, strict=True) if shown]
    header = ["needed", *where, "retriever", "n" if narrow else "questions"]
    header += [*(["ceiling"] if with_ceiling else []), *(f"Hits@{k}" for k in cutoffs)]
    body: list[list[object]] = []
    for group, hits in groups.items():
        ranks = [row["rank"] for row in hits]
        shares = {k: wilson(sum(r is not None and r <= k for r in ranks), len(ranks)) for k in cutoffs}
        cells = {k: share.shown(2 if narrow else 3) for k, share in shares.items()}
        if narrow:
            cells[cutoffs[-1]] = f"{shares[cutoffs[-1]].value:.2f}"
        ceiling = [f"{ceiling_of(hits):.{2 if narrow else 3}f}"] if with_ceiling else []
        where = [part for part, shown in zip(group[1:3], several, strict=True) if shown]
        found = [cells[k] if k <= depths[group] else "" for k in cutoffs]
        body.append([group.gold, *where, group.retriever, len(ranks), *ceiling, *found])
    return header, body


class HitsGroup(NamedTuple):
    """What first hits have in common that are counted together."""

    gold: str  # see `gold_names`
    documents: str  # when they were indexed, where there are several states; else the index's beginning, or ''
    query: str  # form of what was searched with; where several were used, max_df and the depth of the search too
    retriever: str  # see `retriever_names`


def hits_groups(first_hits: Sequence[Mapping[str, Any]]) -> dict[HitsGroup, list[Mapping[str, Any]]]:
    """Return the rows of `first_hits` by group, BM25's first.

    A row has `gold`, `retriever` (a label, see `retriever_names`) and `rank`, the best rank of a needed passage or
    None. Older files lack `index_id`, `documents`, `form`, `max_df`, `teacher`, `accept`, `rationale_form`,
    `depth`, `needed` and `held`.
    """
    golds = gold_names(_gold(row["gold"], row) for row in first_hits)
    retrievers = retriever_names({row["retriever"] for row in first_hits})
    dates = index_dates(first_hits, "index_id")
    shares = {row["max_df"] for row in first_hits if row.get("max_df") is not None}
    depths: dict[str, set[object]] = defaultdict(set)
    for row in first_hits:
        depths[row["retriever"]].add(row.get("depth"))
    groups: dict[HitsGroup, list[Mapping[str, Any]]] = defaultdict(list)
    for row in sorted(first_hits, key=lambda row: (row["retriever"] != BM25, row["retriever"])):
        share = f", max_df {row['max_df']:g}" if len(shares) > 1 and row["max_df"] is not None else ""
        first = f", first {row['depth']}" if len(depths[row["retriever"]]) > 1 else ""
        query, index_id = f"{row.get('form') or ''}{share}{first}", str(row.get("index_id") or "")
        index = dates.get(index_id, index_id[:SHORT])
        groups[HitsGroup(golds[_gold(row["gold"], row)], index, query, retrievers[row["retriever"]])].append(row)
    return dict(sorted(groups.items(), key=lambda item: item[0][:3]))


def _gold(source: str, row: Mapping[str, Any]) -> Gold:
    return source, row.get("teacher"), row.get("accept"), row.get("rationale_form")


def ceiling_of(first_hits: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of what is needed that the knowledge base holds, mean over the questions."""
    return fmean(row["held"] / row["needed"] for row in first_hits)


def hits_curve(ranks: Sequence[int | None], depth: int) -> list[float]:
    """Return Hits@1 to Hits@depth: the shares of questions whose first needed passage is among the first k."""
    return [sum(rank is not None and rank <= k for rank in ranks) / len(ranks) for k in range(1, depth + 1)]


def plot_hits(questions: Sequence[RankedQuestion], kappa: int, title: str, path: Path) -> None:
    """Draw Hits@k into the file: one panel per source, one line per retriever.

    Raises NoExtra without matplotlib, BadInput for another kind of file or one that cannot be written.
    """
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise BadInput(f"{path.name}: name a file that ends in {' or '.join(PLOT_SUFFIXES)}")
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise NoExtra("matplotlib is not installed; add it with: pip install 'kard[plots]'") from error
    depth = min(PLOT_DEPTH, kappa)
    sources = sources_of(questions)
    if not sources:
        raise BadInput("nothing says what these questions need: no evidence, no rationale that was grounded")
    figure = Figure(figsize=(5 * len(sources), 4), layout="constrained")
    figure.suptitle(title)
    for panel, source in enumerate(sources, 1):
        axes = figure.add_subplot(1, len(sources), panel)
        for name in retrievers_in(questions):
            ranked = _ranked(questions, name, source)
            ranks = first_ranks(
                [question.ids(name) for question in ranked], [question.relevant[source] for question in ranked]
            )
            if ranks:
                label = f"{name} (n={len(ranks)})"
                axes.plot(range(1, depth + 1), hits_curve(ranks, depth), label=label, marker=".")
        axes.set(title=source, xlabel="first k passages", ylabel="share of questions", ylim=(0, 1))
        axes.set_xticks([k for k in PLOT_TICKS if k <= depth])
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize="small")
    try:
        figure.savefig(path)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from error
