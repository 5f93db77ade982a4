"""Measure a search on a data set in BEIR's layout: `corpus.jsonl`, `queries.jsonl`, `qrels/SPLIT.tsv`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from kard.errors import BadInput
from kard.files import read_rows
from kard.metrics.ranking import NDCG_CUTOFF, graded_ndcg
from kard.progress import SILENT, Progress
from kard.records import Hit

DEPTH = 100  # documents of each query's list, as BEIR publishes recall
PASSAGES_OF_DOCUMENT = 3  # passages that are found for each document of the list


class Search(Protocol):
    """What finds hits for a query: a `kard.Retriever`."""

    def find(self, query: str, k: int | None = None) -> list[Hit]: ...


def measure(
    retriever: Search, folder: str | Path, *, split: str = "test", progress: Progress = SILENT
) -> dict[str, float]:
    """Return nDCG@10, recall@100 and the number of queries of a BEIR data set in its published files.

    A document's rank is that of its best passage. As in BEIR, a document with the query's own id does not count,
    and every judged query does. Raises BadInput for a folder that is no such data set, and if no judged
    document is found.
    """
    folder = Path(folder)
    judged = _judgements(folder, split)
    queries = {
        str(row.get("_id")): str(row.get("text", "")) for _, row in read_rows(_file(folder, "queries.jsonl"))
    }
    if unknown := judged.keys() - queries.keys():
        raise BadInput(
            f"lacks query {min(unknown)!r}, which qrels/{split}.tsv judges", at=str(folder / "queries.jsonl")
        )
    scores = np.zeros((len(judged), 2))
    documents = {document for gains in judged.values() for document in gains}
    found: set[str] = set()
    with progress.bar("queries", len(judged)) as advance:
        for row, (query, gains) in enumerate(judged.items()):
            hits = retriever.find(queries[query], DEPTH * PASSAGES_OF_DOCUMENT)
            order = [key for key in dict.fromkeys(hit.passage.document for hit in hits) if key != query][:DEPTH]
            relevant = {key for key, gain in gains.items() if gain > 0}
            scores[row] = graded_ndcg(order, gains), len(relevant & set(order)) / max(len(relevant), 1)
            found.update(order)
            advance(1)
    if documents.isdisjoint(found):
        raise BadInput(
            f"judges {min(documents)!r} and others, none of which was found; index the corpus itself with: "
            f"kard index {shlex.quote(str(folder))}",
            at=str(folder / "qrels"),
        )
    ndcg, recall = scores.mean(axis=0).tolist()
    return {f"nDCG@{NDCG_CUTOFF}": ndcg, f"recall@{DEPTH}": recall, "queries": len(judged)}


def _judgements(folder: Path, split: str) -> Mapping[str, Mapping[str, float]]:
    """Return the gain of each judged document by query. Raises BadInput."""
    file = _file(folder / "qrels", f"{split}.tsv")
    if not file.exists():
        splits = ", ".join(sorted({path.name.partition(".")[0] for path in file.parent.glob("*.tsv*")})) or "none"
        raise BadInput(f"no such file; the data set has the splits: {splits}", at=str(file))
    judged: dict[str, dict[str, float]] = {}
    for place, row in read_rows(file):
        try:
            query, document, gain = (str(row[name]) for name in ("query-id", "corpus-id", "score"))
            judged.setdefault(query, {})[document] = float(gain)
        except (KeyError, ValueError) as error:
            raise BadInput("a line needs query-id, corpus-id and a number as score", at=str(place)) from error
    return judged


def _file(folder: Path, name: str) -> Path:
    """Return the file of that name, which may be compressed."""
    return next((path for path in sorted(folder.glob(f"{name}*"))), folder / name)
