"""Time every canned query, every view and every browsing command on a large store.

    python benchmarks/store.py [FOLDER [TIMES]]

Makes a store with 2,000 questions, 20,000 rationales, 2,000,000 hits and 20,000 predictions, or TIMES as many (3 is
1 GB). With FOLDER it is kept and used again as it is; else temporary. The frequency of a word falls with its rank,
as in prose, so that search indexes are as long as those of real texts. Each item runs three times on a new
connection and fetches every row. The least CPU seconds count, because wall-clock seconds depend on what else runs;
both are printed. Commands run in this process, without the start of Python.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate, product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from click.testing import CliRunner
from sqlite_utils import Database

from kard.cli import main as kard
from kard.db import open_store, parameters, query_names, read_store, required, sql
from kard.files import atomic

TASK = "choice"  # a task that needs no data of its own
SPLITS = {"train": 1000, "dev": 500, "test": 500}
TEACHERS, SAMPLES = 2, 5  # rationales: 2,000 x 2 x 5
PASSAGES = 100_000
KAPPA, DEPTH = 100, 45  # hits: 2,000 x 100 + 20,000 x (2 x 45)
VOCABULARY = 30_000
LIMIT = 1.0  # seconds
RUNS = 3
STAMP = "2026-11-24T00:00:00+00:00"
VALUES: dict[str, object] = {
    "text": "word12 word7",
    "task": TASK,
    "split": "test",
    "index": "index",
    "reranker": "reranker-0",
    "question": 1700,
    "teacher": "teacher-0",
    "samples": 10,
    "limit": 100,
    "k": 3,
    "silver": 3,
    "one": 1,
    "other": 2,
    "kappa": 100,
    "retriever": "bm25",
    "evaluation": 1,
    "student": "135m-kard",
    "verifier": "verifier",
    "experiments": 1,
}


class Prose:
    """Random texts of words whose frequency falls with their rank; equal seeds give equal texts."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)
        weights = 1 / np.arange(1, VOCABULARY + 1)
        self.weights = weights / weights.sum()
        self.words = np.array([f"word{i}" for i in range(VOCABULARY)])

    def texts(self, count: int, length: int) -> Iterator[str]:
        """Yield `count` texts of `length` words."""
        for start in range(0, count, 1000):
            shape = (min(1000, count - start), length)
            for row in self.words[self.draw.choice(VOCABULARY, shape, p=self.weights)]:
                yield " ".join(row)

    def numbers(self, count: int, below: int) -> list[int]:
        """Return `count` different numbers from 0 to `below` - 1."""
        return self.draw.choice(below, count, replace=False).tolist()


def fill(db: Database, prose: Prose) -> None:
    """Fill every table that the queries read, in one transaction."""
    with db.atomic():
        _questions(db, prose)
        _retrievals(db, prose)
        _students(db, prose)
        _judgements(db)
        _verifications(db)


def _insert(db: Database, table: str, rows: Iterator[tuple[object, ...]], columns: str = "") -> None:
    first = next(rows)
    marks = ",".join("?" * len(first))
    statement = f"insert into {table} {columns} values ({marks})"
    db.conn.execute(statement, first)
    db.conn.executemany(statement, rows)


def _questions(db: Database, prose: Prose) -> None:
    splits = [split for split, count in SPLITS.items() for _ in range(count)]
    options = json.dumps(["red", "blue", "green", "white"])
    _insert(
        db,
        "questions",
        (
            (i, TASK, f"q{i}", split, text, options, "ABCD"[i % 4], ("one", "two")[i % 2], "[]", f"h{i}", STAMP)
            for i, (split, text) in enumerate(zip(splits, prose.texts(len(splits), 20), strict=True), 1)
        ),
    )
    _insert(
        db,
        "passages",
        (
            (f"{i:016x}", f"document-{i // 4}", i % 4, f"Title {i // 4}", text)
            for i, text in enumerate(prose.texts(PASSAGES, 100))
        ),
    )
    _insert(db, "evidence", ((i, f"document-{i * 7}") for i in range(1, 1 + len(splits))))
    _insert(db, "teachers", ((f"teacher-{i}", f"teacher-{i}", f"m{i}", "", "{}", STAMP) for i in range(TEACHERS)))
    paid = (100, 80, 0.0001, 900.0, STAMP)
    places = product(range(1, 1 + len(splits)), range(TEACHERS), range(SAMPLES))
    count = len(splits) * TEACHERS * SAMPLES
    _insert(
        db,
        "rationales",
        (
            (i, question, f"teacher-{teacher}", sample, text, letter, int(letter == "ABCD"[question % 4]), *paid)
            for i, ((question, teacher, sample), text) in enumerate(
                zip(places, prose.texts(count, 80), strict=True), 1
            )
            for letter in ("ABCD"[(question + (i % 10 == 0)) % 4] if i % 50 else None,)
        ),
    )


def _retrievals(db: Database, prose: Prose) -> None:
    db.execute("insert into indexes values ('index', 'kard.knowledge', ?, 'english', ?)", [PASSAGES, STAMP])
    questions = sum(SPLITS.values())
    rationales = questions * TEACHERS * SAMPLES
    each = TEACHERS * SAMPLES
    columns = "(id, index_id, question_id, rationale_id, query, depth, milliseconds, created)"
    _insert(
        db,
        "retrievals",
        ((i, "index", i, None, "question", KAPPA, 5.0, STAMP) for i in range(1, 1 + questions)),
        columns,
    )
    _insert(
        db,
        "retrievals",
        (
            (questions + i, "index", 1 + (i - 1) // each, i, "rationale", DEPTH, 5.0, STAMP)
            for i in range(1, 1 + rationales)
        ),
        columns,
    )
    _insert(
        db,
        "hits",
        (
            (retrieval, rank, f"{passage:016x}", 40.0 - rank / 4, None if rank > DEPTH else rank)
            for retrieval in range(1, 1 + questions + rationales)
            for rank, passage in enumerate(
                prose.numbers(KAPPA if retrieval <= questions else 2 * DEPTH, PASSAGES), 1
            )
        ),
    )
    for reranker in ("reranker-0", "reranker-1"):
        db.execute(
            "insert into rerankers (id, task, base, base_sha256, index_id, settings, data_sha256, questions,"
            " metrics, path, sha256, milliseconds, created)"
            " values (?, ?, 'b', '', 'index', '{}', '', 1000, '{}', ?, '', 9e5, ?)",
            [reranker, TASK, reranker, STAMP],
        )
        db.execute(
            "insert into rerank_scores select ?, retrieval_id, 101 - rank, passage_id, bm25 from hits"
            " where retrieval_id > ? and retrieval_id <= ?",
            [reranker, SPLITS["train"], questions],
        )


def _students(db: Database, prose: Prose) -> None:
    columns = (
        "(id, task, method, size, base, base_sha256, settings, data_sha256, seed, examples, tokens, loss, path,"
        " sha256, milliseconds, created)"
    )
    made = list(product(("135m", "250m"), ("ft", "rd", "kard")))
    for size, method in made:
        db.execute(
            f"insert into students {columns}"
            " values (?, ?, ?, ?, 'b', '', '{}', '', 0, 1000, 300000, 0.7, ?, '', 1e6, ?)",
            [f"{size}-{method}", TASK, method, size, f"{size}-{method}", STAMP],
        )
    # 24 conditions on test, 8 on dev, 4 on train: 12,000 + 4,000 + 4,000 answers.
    conditions = [(*pair, read) for read in ("none", "bm25", "reranker", "silver") for pair in made]
    evaluations = [("test", *c) for c in conditions] + [("dev", *c) for c in conditions[:8]]
    evaluations += [("train", *c) for c in conditions[:4]]
    _insert(
        db,
        "evaluations",
        (
            (i, TASK, split, f"{size}-{method}", read, "index", None, 3, '{"samples":1}', f"e{i}", STAMP)
            for i, (split, size, method, read) in enumerate(evaluations, 1)
        ),
        "(id, task, split, student_id, retriever, index_id, reranker_id, k, decoding, hash, created)",
    )
    first = dict(zip(SPLITS, accumulate(SPLITS.values(), initial=1), strict=False))  # its first question's number
    answers = [
        (evaluation, question)
        for evaluation, (split, *_) in enumerate(evaluations, 1)
        for question in range(first[split], first[split] + SPLITS[split])
    ]
    letters = prose.draw.integers(0, 4, len(answers)).tolist()
    _insert(
        db,
        "predictions",
        (
            (i, evaluation, question, "ABCD"[letter], int(letter == question % 4), 1, read, 300.0, 1e11, STAMP)
            for i, ((evaluation, question), letter) in enumerate(zip(answers, letters, strict=True), 1)
            for read in (json.dumps([f"{p:016x}" for p in prose.numbers(3, 3000)]),)
        ),
        "(id, evaluation_id, question_id, answer, correct, votes, passages, milliseconds, flops, created)",
    )
    _insert(
        db,
        "samples",
        (
            (i, 0, text, "ABCD"[letter], 400, 60)
            for i, (text, letter) in enumerate(zip(prose.texts(len(answers), 50), letters, strict=True), 1)
        ),
        "(prediction_id, sample, text, answer, prompt_tokens, completion_tokens)",
    )


def _verifications(db: Database) -> None:
    """Add one verifier's opinion on every second rationale."""
    db.execute("insert into verifiers values ('verifier', 'verifier', 'm', '', '{}', 'now')")
    db.execute(
        "insert into verifications"
        " select id, 'verifier', conclusion, accepted, 'B', 200, 5, 0.0, 300.0, 'now' from rationales where id % 2"
    )


def _judgements(db: Database) -> None:
    columns = "(question_id, passage_id, rationale_id, verdict, author, created)"
    verdicts = ("good", "bad")
    _insert(
        db,
        "judgements",
        ((1 + i // 10, None, i + 1, verdicts[i % 2], "one", STAMP) for i in range(sum(SPLITS.values()))),
        columns,
    )
    db.execute(
        "insert into judgements (question_id, passage_id, verdict, author, created)"
        " select retrieval_id, passage_id, 'good', 'one', ? from hits where retrieval_id <= ? and rank <= 4",
        [STAMP, SPLITS["dev"]],
    )
    db.execute(
        "insert into overlaps (question_id, passage_id, kind, share, created)"
        " select retrieval_id, passage_id, 'ngrams', 0.25, ? from hits"
        " where retrieval_id > ? and retrieval_id <= ? and rank <= 4",
        [STAMP, SPLITS["train"] + SPLITS["dev"], sum(SPLITS.values())],
    )
    db.execute(
        "insert into steps_log (task, step, started, milliseconds, added) values (?, 'teach', ?, 9e6, 9)",
        [TASK, STAMP],
    )


@dataclass(frozen=True, slots=True)
class Timed:
    """The least seconds of three runs of one item."""

    name: str
    cpu: float  # seconds
    wall: float  # seconds
    rows: int


def best(name: str, what: Callable[[], int]) -> Timed:
    """Run `what` three times, print and return its least seconds; `what` returns its number of rows."""
    runs: list[tuple[float, float, int]] = []
    for _ in range(RUNS):
        wall, cpu = time.perf_counter(), time.process_time()
        rows = what()
        runs.append((time.process_time() - cpu, time.perf_counter() - wall, rows))
    timed = Timed(name, min(r[0] for r in runs), min(r[1] for r in runs), runs[0][2])
    mark = "  OVER" if timed.cpu > LIMIT else ""
    print(f"{timed.cpu:8.3f} {timed.wall:8.3f} {timed.rows:8,}  {name}{mark}", flush=True)
    return timed


def fetched(path: Path, statement: str, values: dict[str, object]) -> int:
    """Run a statement on a new connection and return its number of rows."""
    with closing(read_store(path)) as connection:
        return len(connection.execute(statement, values).fetchall())


def commands(path: Path) -> Iterator[tuple[str, Callable[[], int]]]:
    """Yield the commands that browse a store, as functions that return their number of lines."""
    for words in (
        ("rationales", TASK, "--json"),
        ("rationales", TASK, "--search", "word12 word7", "--json"),
        ("rationales", TASK, "--question", f"q{VALUES['question']}", "--json"),
        ("rationales", TASK, "--verdict", "rejected", "-n", "1000", "--json"),
        ("rationales", TASK, "--quality", "--json"),
        ("report", TASK, "--json"),
    ):

        def run(words: Sequence[str] = words) -> int:
            done = CliRunner().invoke(kard, [*words, "--store", str(path)])
            if done.exit_code:
                raise SystemExit(f"{' '.join(words)}: {done.output}")
            return len(done.output.splitlines())

        yield "kard " + " ".join(words), run


def measure(path: Path) -> list[Timed]:
    """Time every canned query (required parameters only), a page of every view, and the browsing commands."""
    lines: list[Timed] = []
    for name in query_names():
        statement = sql(name)
        needed = required(name)
        lacking = [p for p in needed if p not in VALUES]
        if lacking:
            raise SystemExit(f"{name}: give {', '.join(lacking)} a value in VALUES")
        values = {p: VALUES[p] if p in needed else None for p in parameters(name)}
        lines.append(best(name, lambda s=statement, v=values: fetched(path, s, v)))
    with closing(read_store(path)) as connection:
        views = [row[0] for row in connection.execute("select name from sqlite_master where type = 'view'")]
    for view in views:
        # Browsers of SQLite files ask for one page of a view.
        lines.append(best(f"view {view}", lambda v=view: fetched(path, f"select * from {v} limit 100", {})))
    lines += [best(name, run) for name, run in commands(path)]
    return lines


def run(folder: Path) -> int:
    """Make the store if it does not exist, print the table, and return the number of items over the limit."""
    path = folder / "kard.db"
    if not path.exists():
        start = time.perf_counter()
        with atomic(path) as part:
            db = open_store(part)
            fill(db, Prose(0))
            db.execute("pragma wal_checkpoint(truncate)")
            db.close()
        print(f"made in {time.perf_counter() - start:.0f} s")
    db = open_store(path)
    counts = {t: db.table(t).count for t in ("questions", "rationales", "hits", "predictions", "passages")}
    db.close()
    size = path.stat().st_size / 2**20
    print(", ".join(f"{count:,} {table}" for table, count in counts.items()) + f"; {size:,.0f} MiB")
    print(f"{'CPU s':>8} {'wall s':>8} {'rows':>8}  what")
    lines = measure(path)
    over = sum(line.cpu > LIMIT for line in lines)
    print(f"{len(lines)} measured, {over} over {LIMIT:g} CPU s")
    return over


def main(arguments: Sequence[str]) -> None:
    """Measure in the named folder, or in a temporary one."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return
    if arguments:
        times = int(arguments[1]) if arguments[1:] else 1
        SPLITS.update({split: times * count for split, count in SPLITS.items()})
        Path(arguments[0]).mkdir(parents=True, exist_ok=True)
        sys.exit(min(run(Path(arguments[0])), 1))
    with TemporaryDirectory() as folder:
        sys.exit(min(run(Path(folder)), 1))


if __name__ == "__main__":
    main(sys.argv[1:])
