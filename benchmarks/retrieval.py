"""How fast passages are indexed and rationales grounded, and how well gold evidence is found.

    python benchmarks/retrieval.py ../shared/data

The folder holds `wikipedia/passages.jsonl.gz`, `strategyqa/questions.jsonl` and the recorded rationales of its
training questions. Speed a core is work over CPU seconds of the whole process, Tantivy's threads included;
wall-clock seconds depend on what else runs. Evidence names documents, so passages count for their documents.
"""

from __future__ import annotations

import gzip
import json
import math
import resource
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory

from sqlite_utils import Database

from kard.config import Retrieval
from kard.db import open_store
from kard.knowledge.indexing import index_source
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.questions import QuestionSet
from kard.retrieval.retrieve import copy_evidence, ground, retrieve

TASK = "benchmark"
SAMPLES = 5  # rationales a question, as the paper's main runs
DEEP = 400  # passages that are surely enough for 100 documents


@dataclass(frozen=True, slots=True)
class Query:
    """A training question: key, text, gold documents and its recorded rationales in the order of their samples."""

    key: str
    text: str
    evidence: frozenset[str]
    rationales: Sequence[str]


def read_queries(folder: Path, samples: int | None = SAMPLES) -> list[Query]:
    """The training questions of the data set in `folder`, each with its first rationales; None for all of them."""
    rationales: dict[str, list[str]] = {}
    with gzip.open(folder / "rationales-train-gpt-3.5-turbo.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if samples is None or row["sample"] < samples:
                rationales.setdefault(row["question_id"], []).append(row["rationale"])
    with (folder / "questions.jsonl").open(encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row["split"] == "train"]
    return [Query(r["id"], r["question"], frozenset(r["evidence"]), rationales[r["id"]]) for r in rows]


def fill(db: Database, queries: Sequence[Query]) -> None:
    """Questions, evidence and accepted rationales, as `kard load` and `kard teach` would leave them."""
    with db.atomic():
        db.execute("insert into teachers values ('t', 'recorded', 'recorded:t', '', '{}', 'now')")
        for key, query in enumerate(queries, 1):
            db.execute(
                "insert into questions (id, task, key, split, text, options, hash, created)"
                " values (?, ?, ?, 'train', ?, '[]', ?, 'now')",
                [key, TASK, query.key, query.text, query.key],
            )
            db.conn.executemany("insert into evidence values (?, ?)", [(key, e) for e in query.evidence])
            db.conn.executemany(
                "insert into rationales (question_id, teacher_id, sample, text, accepted, created)"
                " values (?, 't', ?, ?, 1, 'now')",
                [(key, sample, text) for sample, text in enumerate(query.rationales)],
            )


def ndcg(documents: Sequence[str], gold: frozenset[str], depth: int = 10) -> float:
    """nDCG at `depth` with a gain of 1 for each gold document."""
    gain = sum(1 / math.log2(i + 2) for i, key in enumerate(documents[:depth]) if key in gold)
    return gain / sum(1 / math.log2(i + 2) for i in range(min(depth, len(gold))))


def recall(documents: Sequence[str], gold: frozenset[str], depth: int = 100) -> float:
    """Share of the gold documents among the first `depth`."""
    return len(gold.intersection(documents[:depth])) / len(gold)


def quality(kb: KnowledgeBase, texts: Sequence[str], gold: Sequence[frozenset[str]]) -> Mapping[str, list[float]]:
    """nDCG@10 and recall@100 of each text's gold documents."""
    values: dict[str, list[float]] = {"nDCG@10": [], "recall@100": []}
    for text, evidence in zip(texts, gold, strict=True):
        documents = list(dict.fromkeys(hit.passage.document for hit in kb.search(text, DEEP)))
        values["nDCG@10"].append(ndcg(documents, evidence))
        values["recall@100"].append(recall(documents, evidence))
    return values


@contextmanager
def timed(what: str) -> Generator[Callable[[int, str], None]]:
    """Prints what was done with its wall-clock and CPU seconds and units a CPU second."""
    wall, cpu = time.perf_counter(), time.process_time()

    def say(units: int, of: str) -> None:
        seconds, spent = time.perf_counter() - wall, time.process_time() - cpu
        print(
            f"{what:<10} {units:>9,} {of:<18} {seconds:7.1f} s  {spent:7.1f} CPU s  {units / spent:9,.0f} a CPU s"
        )

    yield say


def main(data: Path) -> None:
    """Run everything in a folder of its own, and print one line a figure."""
    queries = read_queries(data / "strategyqa")
    with TemporaryDirectory() as folder:
        base, source = Path(folder) / "kb", data / "wikipedia" / "passages.jsonl.gz"
        with timed("index") as say:
            say(index_source(source, base).passages, "passages")
        with timed("again") as say:
            say(index_source(source, base).unchanged, "passages")
        kb = KnowledgeBase.open(base)
        size = sum(f.stat().st_size for f in base.rglob("*") if f.is_file())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{'base':<10} {kb.postings.segments} segments, {size / 2**20:.0f} MiB; peak memory {peak:.0f} MiB")
        db = open_store(Path(folder) / "kard.db")
        fill(db, queries)
        with timed("evidence") as say:
            say(copy_evidence(db, kb, TASK), "passages")
        with timed("retrieve") as say:
            say(retrieve(db, kb, QuestionSet(TASK), Retrieval()), "questions")
        with timed("ground") as say:
            say(ground(db, kb, QuestionSet(TASK, "train"), Retrieval()), "rationales")
        judged = [query for query in queries if query.evidence]
        texts = {"question": [q.text for q in judged], "rationale": [q.rationales[0] for q in judged]}
        for name, queries_of_kind in texts.items():
            for metric, values in quality(kb, queries_of_kind, [q.evidence for q in judged]).items():
                margin = 1.96 * stdev(values) / math.sqrt(len(values))
                print(f"{name:<10} {metric:<10} {fmean(values):.4f} ± {margin:.4f} over {len(values):,} questions")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"))
