"""Four processes at one store: no error, and what one of them buys or makes no other one buys or makes again.

    python benchmarks/reliability/sharers.py [--minutes 10] [--sharers 4] [--seed 0] [--json FILE]

First two equal `kard run` begin at the same moment, on a store that has only questions and an index. Then each
sharer runs one command after the other, drawn by chance: it loads more questions, asks the teacher, verifies,
grounds, lets students answer, screens, queries. The teacher counts its calls; the store is checked as after a kill.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import world
from contents import contents, damage
from processes import Started, end_with_parent, preload, run
from teacher import Teacher

LOADED = 8  # questions that a `load` of a sharer brings
COMMANDS = {"load": 1, "teach": 3, "verify": 2, "ground": 3, "evaluate": 3, "screen": 1, "query": 3, "status": 1}


class Sharers:
    """Processes that share a store."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.seed = root, seed
        self.world = world.build(root / "world")
        self.teacher = Teacher(self.world)
        self.trial = root / "trial"
        self.store = self.trial / "kard.db"
        with Path(self.world.questions).open(encoding="utf-8") as stream:
            self.questions = [row for row in csv.DictReader(stream) if row["split"] == "train"]

    def words(self, name: str, draw: random.Random) -> list[str]:
        """Return the words of a command; a `load` writes its file first."""
        task, model = self.world.task, ("--model", "openai/fake", "--api-base", self.teacher.url, "--workers", "2")
        if name == "load":
            path = self.root / f"more-{draw.getrandbits(48):x}.jsonl"
            rows = [{**draw.choice(self.questions), "id": f"{draw.getrandbits(48):x}"} for _ in range(LOADED)]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            return ["load", task, str(path), "--store", str(self.store)]
        words = {
            "teach": ["teach", task, *model],
            "verify": ["verify", task, *model],
            "ground": ["ground", task],
            "evaluate": ["evaluate", task, "--retriever", "bm25", "--student", draw.choice(("all", "named"))],
            "screen": ["screen", task],
            "query": ["query", draw.choice(("accuracy", "rationale_quality", "select count(*) from hits"))],
            "status": ["status", task],
            "run": ["run", task, *model[:-2], "--method", "kard", "--retriever", "bm25,reranker"],
        }[name]
        return [*words, "--store", str(self.store)]

    def begin(self, *names: str) -> None:
        """Make a store by these commands."""
        world.fresh(self.trial)
        place = ["--store", str(self.store)]
        for words in (["load", self.world.task, self.world.questions], ["index", self.world.docs]):
            self.done([*words, *place])
        for name in names:
            self.done(self.words(name, random.Random(0)))

    def done(self, words: list[str]) -> None:
        """Run a command that must succeed."""
        if (ended := run(words, folder=self.trial)).code:
            raise RuntimeError(f"{words}: {ended.output}")

    def share(self, minutes: float, sharers: int) -> dict[str, Any]:
        """Let sharers work for some minutes; return what they did."""
        before = self.teacher.asked()
        self.begin("teach", "ground")
        self.done(["train", "student", self.world.task, "--method", "kard", "--store", str(self.store)])
        end = time.monotonic() + 60 * minutes
        results = [self.root / f"sharer-{number}.json" for number in range(sharers)]
        children = [self._sharer(number, end, path) for number, path in enumerate(results)]
        for child in children:
            os.waitpid(child, 0)
        counts: Counter[str] = Counter()
        errors: list[str] = []
        for path in results:
            result = json.loads(path.read_text())
            counts.update(result["counts"])
            errors += result["errors"]
        for name in ("teach", "verify", "ground", "evaluate"):
            self.done(self.words(name, random.Random(0)))
        return {
            "sharers": sharers,
            "minutes": minutes,
            "commands": dict(counts),
            "errors": errors,
            **self.checked(before),
        }

    def _sharer(self, number: int, end: float, path: Path) -> int:
        """Start a process that runs commands until the end, each in a process of its own; return its id."""
        if pid := os.fork():
            return pid
        counts: Counter[str] = Counter()
        errors: list[str] = []
        try:
            end_with_parent()
            draw = random.Random(f"{self.seed} {number}")
            while time.monotonic() < end:
                name = draw.choices(list(COMMANDS), list(COMMANDS.values()))[0]
                ended = run(self.words(name, draw), folder=self.trial)
                counts[name] += 1
                if ended.code or "Traceback" in ended.output:
                    errors.append(f"{name}: {ended.output[-600:]}")
        finally:
            path.write_text(json.dumps({"counts": counts, "errors": errors}))
            os._exit(0)

    def two_runs(self) -> dict[str, Any]:
        """Begin two equal runs at once; return what came of it."""
        self.begin()
        before = self.teacher.asked()
        both = [Started(self.words("run", random.Random(0)), folder=self.trial) for _ in range(2)]
        ended = [started.wait() for started in both]
        errors = [end.output[-600:] for end in ended if end.code or "Traceback" in end.output]
        return {"errors": errors, **self.checked(before)}

    def checked(self, before: Mapping[str, int]) -> dict[str, Any]:
        """Return what is paid twice, doubled or damaged in the store."""
        with closing(sqlite3.connect(self.store)) as db:
            replies = "select (select count(*) from rationales) + (select count(*) from verifications)"
            stored = db.execute(replies).fetchone()[0]
            trained = db.execute(
                "select (select count(*) from students), (select count(*) from rerankers)"
            ).fetchone()
        calls = sum(self.teacher.asked().values()) - sum(before.values())
        rows = contents(self.store)
        single = (
            "rationales",
            "verifications",
            "predictions",
            "students",
            "rerankers",
        )  # a row of these stands once
        return {
            "calls": calls,
            "replies": stored,
            "paid_twice": calls - stored,
            "students": trained[0],
            "rerankers": trained[1],
            "rows": sum(sum(table.values()) for table in rows.values()),
            "doubled": sum(count > 1 for name in single for count in rows[name].values()),
            "damaged": damage(self.store),
        }


def main() -> None:
    """Run the suite."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--sharers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="keep the result in this file")
    options = parser.parse_args()
    preload()
    with tempfile.TemporaryDirectory() as root:
        suite = Sharers(Path(root), options.seed)
        runs = suite.two_runs()
        print(runs, file=sys.stderr, flush=True)
        shared = suite.share(options.minutes, options.sharers)
        suite.teacher.stop()
    world.record(options.json, "sharers", {"seed": options.seed, "shared": shared, "runs": runs})


if __name__ == "__main__":
    main()
