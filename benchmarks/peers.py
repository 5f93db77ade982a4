"""Retrieval beside its peers, in one run: kard, Lucene and bm25s over the same passages, with the same queries.

    python benchmarks/peers.py ../shared/data --lucene FATJAR --java JDK/bin/java --bm25s PYTHON --json FILE

The folder is that of benchmarks/retrieval.py. FATJAR is Anserini's, which holds Lucene (the package pyserini has
it). PYTHON is the interpreter of an environment with bm25s, numba and PyStemmer. A peer that is missing is left
out, and the output says so. All have k1=1.2 and b=.75, and each its own stemmer and stop words. The peers index
kard's passages (title and text) from a plain file; kard reads, splits and hashes the compressed source.

The judged training questions, and a rationale of each, are dealt to the rounds. In each round every way of
searching has its turn with that round's queries. CPU milliseconds are of the peer's whole process, as the system
counts them; they include analysing the query and, in the way `text`, the passages with their text. kard and Lucene
search query by query, bm25s with all of a round at once. FILE is written after each stage.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any

from retrieval import TASK, Query, fill, ndcg, read_queries

from kard.config import Retrieval
from kard.db import open_store

K = 100
WARM = 2_000  # passages that a peer indexes before it is timed, so that what it compiles is compiled
GROUNDED = 70  # questions of ten rationales: 700 rationales a round
SHARES, MOST = (0.1, 0.05, 0.02), (0, 30, 20)  # of the curve: dropped above; heaviest terms kept, 0 for all
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
DRIVERS = Path(__file__).with_name("drivers")  # what runs in the peers' processes
Report = dict[str, Any]


@dataclass(frozen=True)
class Spent:
    """What a command took."""

    cpu: float  # seconds of the process, all its threads
    clock: float  # seconds


class Process:
    """A peer's process. `version` is what it says of itself."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = self._line()

    def do(self, *words: object) -> Spent:
        """Do a command, and return what it took."""
        cpu, clock = self._cpu(), time.perf_counter()
        assert self._process.stdin is not None
        self._process.stdin.write("\t".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        line = self._line()
        assert line == "done", line
        return Spent(self._cpu() - cpu, time.perf_counter() - clock)

    def memory(self) -> Mapping[str, int]:
        """Return MiB in memory: the peak, and what of now belongs to no file."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
        values = dict(line.split(":", 1) for line in lines)
        return {name: int(values[key].split()[0]) // 1024 for name, key in (("peak", "VmHWM"), ("own", "RssAnon"))}

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise SystemExit(f"{self._process.args} ended with {self._process.wait()}")
        return line.rstrip("\n")

    def _cpu(self) -> float:
        text = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        ticks = text.rpartition(")")[2].split()
        return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Way:
    """One way of searching: which peer, with terms up to which share of passages, with text, how many terms."""

    name: str
    peer: str
    share: float = 1.0
    text: str = "ids"
    most: int = 0


@dataclass
class Round:
    """A round's queries by kind, as files of a line each, with their gold documents."""

    files: dict[str, Path]
    gold: list[frozenset[str]]
    grounded: Sequence[Query]  # all their rationales are searched with


def peers(chosen: argparse.Namespace, folder: Path) -> dict[str, list[str]]:
    """Return the command of each peer that is there."""
    found = {"kard": [sys.executable, str(DRIVERS / "kard_driver.py")]}
    if chosen.lucene and Path(chosen.lucene).exists():
        javac = Path(shutil.which(chosen.java) or chosen.java).resolve().with_name("javac")
        subprocess.run([javac, "-cp", chosen.lucene, "-d", folder, DRIVERS / "Lucene.java"], check=True)
        options = ["-Xmx1g", "--add-modules", "jdk.incubator.vector"]
        found["lucene"] = [chosen.java, *options, "-cp", f"{chosen.lucene}:{folder}", "Lucene"]
    if chosen.bm25s and shutil.which(chosen.bm25s):
        found["bm25s"] = [chosen.bm25s, str(DRIVERS / "bm25s_driver.py")]
    for name in {"lucene", "bm25s"} - found.keys():
        print(f"{name} is missing: name it with --{name}")
    return found


def machine() -> Report:
    """Return what the processor is."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    lines = [line.partition(":")[::2] for line in info.splitlines() if ":" in line]
    values = {name.strip(): value.strip() for name, value in lines}
    flags = [flag for flag in FLAGS if flag in values.get("flags", "").split()]
    return {"cores": len(os.sched_getaffinity(0)), "cpu": values.get("model name", ""), "flags": flags}


def keep(file: Path, section: str, values: Report) -> None:
    """Write what a script measured into a report, with the day and the processor; what else is there stays."""
    report = json.loads(file.read_text("utf-8")) if file.exists() else {}
    report[section] = {"date": str(date.today()), **machine(), **values}
    file.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def export(base: Path, to: Path) -> list[str]:
    """Write the passages of a knowledge base, a line each; return their documents in this order."""
    rows = sqlite3.connect(base / "passages.db").execute(
        "select document, title, text from passages order by rowid"
    )
    documents: list[str] = []
    with to.open("w", encoding="utf-8") as out:
        for row in rows:
            documents.append(row[0])
            out.write("\t".join(" ".join(value.split()) or "-" for value in row) + "\n")
    return documents


def deal(queries: Sequence[Query], rounds: int, most: int, folder: Path) -> list[Round]:
    """Write the queries of each round, of all rounds together at most so many of each kind; 0 for all."""
    judged = [q for q in queries if q.evidence]
    random.Random(0).shuffle(judged)
    judged = judged[: most or None]
    asked = random.Random(1).sample(queries, min(len(queries), GROUNDED * rounds))
    made: list[Round] = []
    for i in range(rounds):
        own = judged[i::rounds]
        texts = {"question": [q.text for q in own], "rationale": [q.rationales[0] for q in own]}
        texts["grounded"] = [text for q in asked[i::rounds] for text in q.rationales]
        files = {kind: folder / f"{kind}-{i}.txt" for kind in texts}
        for kind, path in files.items():
            path.write_text("".join(" ".join(text.split()) + "\n" for text in texts[kind]), encoding="utf-8")
        made.append(Round(files, [q.evidence for q in own], asked[i::rounds]))
    return made


def ndcgs(numbers: Path, documents: Sequence[str], gold: Sequence[frozenset[str]]) -> list[float]:
    """Return nDCG@10 of each query's gold documents, from the numbers of its passages."""
    lines = numbers.read_text(encoding="utf-8").splitlines()
    orders = [dict.fromkeys(documents[int(n)] for n in line.split()) for line in lines]
    return [ndcg(list(order), evidence) for order, evidence in zip(orders, gold, strict=True)]


def search(running: Mapping[str, Process], rounds: Sequence[Round], ways: Sequence[Way], documents: Sequence[str],
           save: Callable[[Report], None]) -> None:  # fmt: skip
    """Search with each round's queries in every way, and give the report after each round."""
    milliseconds: dict[str, dict[str, list[float]]] = {}
    quality: dict[str, dict[str, list[float]]] = {}
    out = rounds[0].files["question"].with_name("out.txt")
    for one in rounds:
        for kind in ("question", "rationale"):
            for way in ways:
                if kind == "question" and way.most:
                    continue  # has fewer terms
                to = "-" if way.text == "text" else out
                spent = running[way.peer].do("search", one.files[kind], K, way.share, way.text, to, way.most)
                milliseconds.setdefault(kind, {}).setdefault(way.name, []).append(spent.cpu * 1000 / len(one.gold))
                if to == out:
                    values = quality.setdefault(kind, {}).setdefault(way.name, [])
                    values += ndcgs(out, documents, one.gold)
        report: Report = {}
        for kind, by_way in milliseconds.items():
            for name, times in by_way.items():
                row: Report = {"ms": [round(ms, 3) for ms in times]}
                if values := quality[kind].get(name):
                    less = [a - b for a, b in zip(quality[kind]["kard"], values, strict=True)]
                    row |= {"ndcg": fmean(values), "kard_is_better_by": fmean(less)}
                    row["margin"] = 1.96 * stdev(less) / sqrt(len(less))
                report.setdefault(name, {})[kind] = row
        save(report)


def main() -> None:
    """Index, search and ground with every peer, and write the report after each stage."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, nargs="?", default=Path("../shared/data"))
    parser.add_argument("--lucene", default="", help="Anserini's fatjar")
    parser.add_argument("--java", default="java", help="of a JDK that is new enough for it; javac lies beside it")
    parser.add_argument("--bm25s", default="", help="interpreter of an environment with bm25s, numba and PyStemmer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=0, help="of each kind, in all rounds together; 0 for all")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with TemporaryDirectory() as folder:
        compare(chosen, Path(folder))


def compare(chosen: argparse.Namespace, folder: Path) -> None:
    """Run the benchmark in this folder."""
    commands_of = peers(chosen, folder)
    report: Report = {"date": str(date.today()), **machine(), "rounds": chosen.rounds, "k": K}
    if chosen.json and chosen.json.exists():  # what `keep` wrote for other scripts
        kept = json.loads(chosen.json.read_text("utf-8")).items()
        report |= {name: section for name, section in kept if isinstance(section, dict) and "date" in section}

    def save(**values: object) -> None:
        report.update(values)
        print(f"{time.strftime('%H:%M:%S')} {json.dumps(values)}", flush=True)
        if chosen.json:
            chosen.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    source, plain, few = chosen.data / "wikipedia" / "passages.jsonl.gz", folder / "all.txt", folder / "few.txt"
    indexed: dict[str, list[float]] = {}

    def index(name: str, turn: int) -> None:
        process = Process(commands_of[name])
        if name != "kard":  # has nothing to compile
            process.do("index", few, folder / f"{name}-few")
        spent = process.do("index", source if name == "kard" else plain, folder / f"{name}-{turn}")
        process.close()
        indexed.setdefault(name, []).append(spent.cpu)

    index("kard", 0)
    documents = export(folder / "kard-0", plain)
    with plain.open(encoding="utf-8") as lines:
        few.write_text("".join(islice(lines, WARM)), encoding="utf-8")
    others = [name for name in commands_of if name != "kard"]
    for name in others:
        index(name, 0)
    save(passages=len(documents), index_cpu_seconds=indexed)

    queries = read_queries(chosen.data / "strategyqa", samples=None)
    rounds = deal(queries, chosen.rounds, chosen.queries, folder)
    running = {name: Process(command) for name, command in commands_of.items()}
    save(versions={name: p.version for name, p in running.items()}, judged=sum(len(r.gold) for r in rounds))
    for name, process in running.items():
        process.do("open", folder / f"{name}-0")
        process.do("search", rounds[-1].files["rationale"], K, 1, "ids", "-", 0)  # compiles, and fills caches
    share = Retrieval().max_df_among(len(documents))
    ways = [Way("kard", "kard", share), Way("kard text", "kard", share, "text"), Way("kard exact", "kard")]
    for name in others:
        ways += [Way(name, name), Way(f"{name} pruned", name, share)]
    ways += [
        Way(f"curve {s:g} {most}", "kard", s, most=most) for s in SHARES for most in MOST if (s, most) != (share, 0)
    ]
    search(running, rounds, ways, documents, lambda found: save(search=found))
    save(memory_mib={name: process.memory() for name, process in running.items()})

    grounding: dict[str, list[dict[str, float]]] = {}
    for i, one in enumerate(rounds):
        store = folder / f"ground-{i}.db"
        db = open_store(store)
        fill(db, one.grounded)
        db.close()
        count = sum(len(q.rationales) for q in one.grounded)
        spent = {"kard": running["kard"].do("ground", store, TASK)}
        for name in others:
            depth = Retrieval().depth
            spent[name] = running[name].do("search", one.files["grounded"], depth, 1, "ids", "-", 0)
        for name, took in spent.items():
            each = {"cpu_ms": took.cpu * 1000 / count, "clock_ms": took.clock * 1000 / count}
            grounding.setdefault(name, []).append(each)
        save(grounded_a_round=count, grounding=grounding)
    for process in running.values():
        process.close()
    for turn in range(1, chosen.rounds):
        for name in commands_of:
            index(name, turn)
            shutil.rmtree(folder / f"{name}-{turn}")
        save(index_cpu_seconds=indexed)


if __name__ == "__main__":
    main()
