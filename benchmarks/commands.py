"""Whole commands, timed from outside: start-up and queries beside sqlite-utils, and two commands on the same cores.

    python benchmarks/commands.py STORE DEMO [--rounds 5] [--json docs/benchmarks.json]

STORE is any large store, like that of `python benchmarks/store.py FOLDER TIMES`. DEMO is a store that `kard demo`
made; its student answers 60 of its questions anew, in copies, once alone and then twice at the same time. Every
round runs all of them in turn, after a round that is not counted. Nothing else should run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from peers import Spent, keep

from kard.db import read_store

BIN = Path(sys.executable).parent
GROUPED = (
    "select size, retriever, count(*) answers, avg(correct) accuracy from predictions p"
    " join evaluations e on e.id = p.evaluation_id join students s on s.id = e.student_id group by size, retriever"
)
PAGE = "select * from rationales limit 1000"
QUESTIONS = 60


@click.command()
@click.argument("store", type=click.Path(exists=True, path_type=Path))
@click.argument("demo", type=click.Path(exists=True, path_type=Path))
@click.option("--rounds", default=5, show_default=True, help="Turns of every command.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Report of benchmarks/peers.py, to add to.")
def main(store: Path, demo: Path, rounds: int, file: Path | None) -> None:
    """Print, and with --json keep, the seconds of every command in every round."""
    with closing(read_store(demo)) as db:
        task, question = db.execute("select task, text from questions where split = 'test' order by id").fetchone()
    seconds: dict[str, list[float]] = {}
    with TemporaryDirectory() as folder:
        for turn in range(rounds + 1):
            for name, spent in one_round(store, demo, task, question, Path(folder)).items():
                if turn:
                    seconds.setdefault(name, []).append(round(spent, 3))
    for name, values in seconds.items():
        print(f"{name:30} {'  '.join(f'{value:7.3f}' for value in values)}")
    if file:
        keep(file, "commands", {"store_mib": round(store.stat().st_size / 2**20), "seconds": seconds})


def one_round(store: Path, demo: Path, task: str, question: str, folder: Path) -> dict[str, float]:
    """Return what each command took: CPU seconds beside sqlite-utils, else seconds by the clock."""
    spent: dict[str, float] = {}
    for name, sql in (("query", GROUPED), ("page", PAGE)):
        spent[f"kard {name}"] = run(["kard", "query", sql, "--json", "--store", str(store)]).cpu
        spent[f"sqlite-utils {name}"] = run(["sqlite-utils", "query", str(store), sql]).cpu
    for tool in ("kard", "sqlite-utils"):
        spent[f"{tool} help"] = run([tool, "--help"]).cpu
    spent["kard ask"] = run(["kard", "ask", question, "--store", str(demo)]).clock
    spent["one evaluates"] = evaluate(demo, task, folder, 1)
    spent["two evaluate"] = evaluate(demo, task, folder, 2)
    return spent


def run(command: Sequence[str]) -> Spent:
    """Run a command of this environment to its end. Raises CalledProcessError if it fails."""
    before, begin = os.times(), time.perf_counter()
    subprocess.run([str(BIN / command[0]), *command[1:]], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Spent(cpu=cpu, clock=time.perf_counter() - begin)


def evaluate(demo: Path, task: str, folder: Path, count: int) -> float:
    """Return the seconds until so many processes have each answered the questions with one passage, in a copy."""
    copies = [folder / f"copy{i}.db" for i in range(count)]
    for copy in copies:
        for side in (".db", ".adapters", ".knowledge"):
            source, target = demo.with_suffix(side), copy.with_suffix(side)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copyfile(source, target)
    words = f"evaluate {task} --student kard --retriever bm25 -k 1 --limit {QUESTIONS} -q".split()
    begin = time.perf_counter()
    running = [
        subprocess.Popen([str(BIN / "kard"), *words, "--store", str(copy)], stdout=subprocess.DEVNULL)
        for copy in copies
    ]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit("kard evaluate failed")
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
