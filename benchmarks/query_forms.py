"""How well gold evidence is found by each form of a query, and by each share of dropped terms.

    python benchmarks/query_forms.py ../shared/data

The folder holds `sciq`, `qasc`, `strategyqa` and `wikipedia` as benchmarks/retrieval.py and their READMEs describe
them. Only training and validation questions are asked. BM25 alone searches. Each line is one way on one set of
questions: Hits@1/3/10 and nDCG@10 of the evidence, the paired difference of nDCG@10 from the line above it that
bears `+0`, with its 95% interval, and CPU milliseconds a question. Evidence names documents.
"""

from __future__ import annotations

import gzip
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any, get_args

from kard.config import QueryForm, RationaleForm, Retrieval
from kard.knowledge.indexing import index_source
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.metrics.ranking import RelevantPassages, ranking_metrics
from kard.questions import query_of, query_of_rationale

CUTOFFS = (1, 3, 10)
DEPTH = 40  # passages; some documents have several
MAX_DF = (0.05, 1.0)  # the default share, and every term
NDCG_PLACE = 5  # of nDCG@10 among the values of `ranking_metrics`
SETS = (  # name, questions, splits, passages
    ("sciq", "sciq/questions.jsonl.gz", ("valid",), "sciq/passages.jsonl.gz"),
    ("qasc", "qasc/questions.jsonl.gz", ("train", "valid"), "qasc/passages.jsonl.gz"),
    ("strategyqa", "strategyqa/questions.jsonl", ("train",), "wikipedia/passages.jsonl.gz"),
)
Texts = Callable[["Asked"], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its evidence (document keys) and a rationale, '' where it has none."""

    text: str
    options: Sequence[str]
    evidence: frozenset[str]
    rationale: str


@dataclass(frozen=True, slots=True)
class Way:
    """What is searched with, and the share of passages above which terms are dropped."""

    texts: Texts
    max_df: float


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines, compressed or not."""
    data = path.read_bytes()
    lines = (gzip.decompress(data) if path.suffix == ".gz" else data).decode().split("\n")
    return [json.loads(line) for line in lines if line]


def read_asked(path: Path, split: str, rationales: Mapping[str, str]) -> list[Asked]:
    """The questions of a split with evidence; `rationales` are by id, else those in the rows count."""
    return [
        Asked(
            str(row["question"]),
            row["options"],
            frozenset(row["evidence"]),
            rationales.get(str(row["id"]), str(row.get("rationale") or "")),
        )
        for row in rows_of(path)
        if row["split"] == split and row["evidence"]
    ]


def ways_to_search(passages: int) -> list[dict[str, Way]]:
    """The ways to compare: forms of questions, forms of rationales, then dropped terms for either."""
    default = Retrieval().max_df_among(passages)
    questions = {form: Way(by_question(form), default) for form in get_args(QueryForm)}
    rationales = {form: Way(by_rationale(form), default) for form in get_args(RationaleForm)}
    dropped = [
        {f"{form}, max_df {max_df}": Way(texts, max_df) for max_df in MAX_DF}
        for form, texts in (("question", by_question("question")), ("rationale", by_rationale("rationale")))
    ]
    return [questions, rationales, *dropped]


def by_question(form: QueryForm) -> Texts:
    """Search with the question in that form."""
    return lambda asked: query_of(asked.text, asked.options, form).texts


def by_rationale(form: RationaleForm) -> Texts:
    """Search with the rationale in that form."""
    return lambda asked: (query_of_rationale(asked.text, asked.rationale, form),)


def report(name: str, kb: KnowledgeBase, asked: Sequence[Asked], ways: Mapping[str, Way]) -> None:
    """Print a line for each way: what it searches with, and its `max_df`."""
    first: list[float] | None = None
    for label, way in ways.items():
        started = time.process_time()
        found = [
            list(dict.fromkeys(hit.passage.document for hit in kb.search(way.texts(q), DEPTH, max_df=way.max_df)))
            for q in asked
        ]
        milliseconds = (time.process_time() - started) * 1000 / len(asked)
        hits = [fmean(not q.evidence.isdisjoint(d[:k]) for q, d in zip(asked, found, strict=True)) for k in CUTOFFS]
        values = [ndcg_at_10(d, q.evidence) for q, d in zip(asked, found, strict=True)]
        first = first or values
        differences = [value - base for value, base in zip(values, first, strict=True)]
        margin = 1.96 * stdev(differences) / math.sqrt(len(differences))
        print(
            f"{name:<16} {len(asked):>5} {label:<24}"
            f" {'/'.join(f'{h:.3f}' for h in hits)} nDCG {fmean(values):.4f}"
            f" {fmean(differences):+.4f} ± {margin:.4f}  {milliseconds:5.1f} ms",
            flush=True,
        )


def ndcg_at_10(documents: Sequence[str], gold: frozenset[str]) -> float:
    """nDCG@10 of an order of documents, each once."""
    return float(ranking_metrics(documents, RelevantPassages({key: key for key in gold}), DEPTH)[NDCG_PLACE])


def main(data: Path) -> None:
    """Index each knowledge base in a folder of its own, and print one line for each way to search it."""
    recorded = {
        str(row["question_id"]): str(row["rationale"])
        for row in rows_of(data / "strategyqa" / "rationales-train-gpt-3.5-turbo.jsonl.gz")
        if row["sample"] == 0
    }
    for name, questions, splits, passages in SETS:
        with TemporaryDirectory() as folder:
            index_source(data / passages, Path(folder))
            kb = KnowledgeBase.open(Path(folder))
            print(f"{name}: {kb.count:,} passages", flush=True)
            for split in splits:
                asked = read_asked(data / questions, split, recorded)
                for ways in ways_to_search(kb.count):
                    report(f"{name} {split}", kb, asked, ways)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"))
