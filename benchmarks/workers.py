"""What workers gain: one sweep by this process, by processes of this machine, by a Ray cluster of two nodes.

    pip install -e '.[ray]'
    python benchmarks/workers.py FOLDER [--ways alone,processes,ray] [--train 48] [--test 48]
        [--json docs/scale.json]

Each way begins with a store that holds the demo's world and questions, and does what `kard sweep` lacks: the
searches, six students (two seeds) and their answers. The answers of the ways are compared text by text. Seconds are
those of the store's own log of steps; leave the cores to it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from peers import machine

from kard.db import open_store

KARD = (sys.executable, "-m", "kard")
SWEEP = ("sweep", "atlas", "--over", "student.shuffle=false,true", "--seeds", "0,1", "--method", "ft,kard")


def prepare(folder: Path) -> Path:
    """Return a store with the world's questions and rationales, beside its knowledge base; made once."""
    store = folder / "demo.db"
    if not store.exists():
        subprocess.run([*KARD, "demo", "--quick", "--store", str(store)], check=True, stdout=subprocess.DEVNULL)
    return store


@contextmanager
def cluster() -> Generator[list[str]]:
    """Start two nodes of one processor each on this machine; yield the options that name them."""
    from ray.cluster_utils import Cluster

    nodes: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    try:
        yield ["--ray", str(nodes.address)]
    finally:
        nodes.shutdown()


@contextmanager
def here(*options: str) -> Generator[list[str]]:
    """Yield options for processes of this machine."""
    yield list(options)


WAYS = {"alone": here, "processes": lambda: here("--workers", "2"), "ray": cluster}


def measure(way: str, source: Path, folder: Path, limits: Sequence[str]) -> tuple[dict[str, Any], list[Any]]:
    """Do the sweep in a copy of the store; return seconds by step and the answers."""
    store = folder / f"{way}.db"
    for old in folder.glob(f"{way}.*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    with closing(open_store(source)) as db:
        db.execute("vacuum into ?", [str(store)])
    with closing(open_store(store)) as db:
        for table in ("students", "rerankers", "retrievals", "steps_log"):  # and what rests on them
            db.execute(f"delete from {table}")
        db.conn.commit()
    places = ("--store", str(store), "--knowledge", str(source.with_suffix(".knowledge")))
    chosen = ("--retriever", "bm25,shuffled", "--epochs", "1", "--quiet", *limits)
    with WAYS[way]() as options:
        begin = time.monotonic()
        subprocess.run([*KARD, *SWEEP, *chosen, *places, *options], check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - begin
    with closing(open_store(store)) as db:
        log = "select step, sum(milliseconds) / 1000 from steps_log group by step"
        steps = dict(db.execute(log).fetchall())
        answers = db.execute(
            "select q.key, e.student_id, e.retriever, s.text from samples s"
            " join predictions p on p.id = prediction_id join evaluations e on e.id = p.evaluation_id"
            " join questions q on q.id = p.question_id order by 1, 2, 3"
        ).fetchall()
        trained = db.execute("select count(*), sum(milliseconds) / 1000 from students").fetchone()
    return {
        "way": way, "seconds": seconds, "steps": steps, "students": trained[0], "training_seconds": trained[1],
        "answers": len(answers), "megabytes": store.stat().st_size / 1e6,
    }, answers  # fmt: skip


def main() -> None:
    """Measure each way and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--train", default="48", help="questions that teach")
    parser.add_argument("--test", default="48", help="questions that are answered")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    source = prepare(chosen.folder)
    found: list[dict[str, Any]] = []
    first: list[Any] = []
    for way in chosen.ways.split(","):
        limits = ("--train-limit", chosen.train, "--limit", chosen.test)
        values, answers = measure(way, source, chosen.folder, limits)
        first = first or answers
        values["same_texts"] = sum(a == b for a, b in zip(answers, first, strict=True)) / len(first)
        found.append(values)
        print(json.dumps(values), flush=True)
    if chosen.json:
        report = json.loads(chosen.json.read_text(encoding="utf-8")) if chosen.json.exists() else {}
        report["workers"] = {"machine": machine(), "ways": found}
        chosen.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
