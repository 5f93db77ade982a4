"""SIGKILL at any moment, in every step: nothing is lost, doubled, damaged, left behind, or paid for twice.

    python benchmarks/reliability/kills.py [--kills 500] [--seed 0] [--step NAME ...] [--json FILE]

Every step of a small store (tiny random models, a teacher on this machine) is run once unbroken. Then it is begun
from the same state again and again and killed: half of the times at a random moment, half of them before its n-th
write (a statement that changes a database, or a file that is created, renamed or removed). Students write a
checkpoint after each optimizer step. After a kill the same command runs to its end, or is killed again. Then the
store, the knowledge base and the names of all files are compared with those of the unbroken run.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import world
from contents import contents, damage, files, knowledge
from processes import Ended, Started, preload, run
from teacher import Teacher
from world import World

MORE = 0.6  # share of the interrupted runs that are interrupted again
WRONG = ("failed", "lost", "doubled", "other", "damaged", "left behind", "paid twice")
LIGHT = {"load", "index", "index --repair", "index again"}  # steps before which no model is needed
WEIGHTS = {"train reranker": 1.5, "train student": 1.5}  # of a step's share of the kills; others have 1


@dataclass(frozen=True, slots=True)
class Step:
    """A command, and what is broken on purpose before it."""

    name: str
    words: tuple[str, ...]
    replies: str = ""  # the table of the teacher's replies
    breaks: bool = False  # bytes of the passages and of the postings are overwritten


@dataclass(slots=True)
class Tally:
    """What was seen of one step."""

    kills: int = 0
    at_writes: int = 0  # of the kills
    finished: int = 0  # runs to the end, each after one kill or several
    wrong: Counter[str] = field(default_factory=Counter[str])
    examples: list[str] = field(default_factory=list[str])
    under_way: int = 0  # teacher calls that a kill cut off, or whose reply had not been stored
    most_under_way: int = 0  # of them, by one kill
    seconds: float = 0.0


def steps(world: World, url: str) -> list[Step]:
    """Return every step, in the order of the work."""
    model = ("--model", "openai/fake", "--api-base", url, "--workers", "4")
    return [
        Step("load", ("load", world.task, world.questions)),
        Step("index", ("index", world.docs)),
        Step("index --repair", ("index", "--repair"), breaks=True),
        Step("index again", ("index", world.changed_docs, "--name", world.docs)),
        Step("teach", ("teach", world.task, *model), replies="rationales"),
        Step("verify", ("verify", world.task, *model), replies="verifications"),
        Step("ground", ("ground", world.task)),
        Step("train reranker", ("train", "reranker", world.task)),
        Step("rerank", ("evaluate", world.task, "--rank-only", "--retriever", "bm25,reranker,fused")),
        Step("train student", ("train", "student", world.task, "--method", "kard")),
        Step("evaluate", ("evaluate", world.task, "--retriever", "bm25,reranker")),
        Step("screen", ("screen", world.task)),
    ]


class Suite:
    """One run of this suite in a folder of its own."""

    def __init__(self, root: Path, seed: int, *, models: bool) -> None:
        self.world = world.build(root / "world", models=models)
        self.teacher = Teacher(self.world)
        self.trial, self.saved = root / "trial", root / "saved"
        self.draw = random.Random(seed)
        self.place = ("--store", str(self.trial / "kard.db"))

    def state(self) -> dict[str, Any]:
        """Return everything that two runs must have in common."""
        store = self.trial / "kard.db"
        return {
            "rows": contents(store) if store.exists() else {},
            "knowledge": knowledge(self.trial / "kard.knowledge"),
            "files": files(self.trial),
        }

    def restore(self) -> None:
        """Go back to the state before the step."""
        shutil.rmtree(self.trial, ignore_errors=True)
        shutil.copytree(self.saved, self.trial)

    def test(self, step: Step, kills: int) -> Tally:
        """Kill a step so many times, or a few times more; leave the state after it."""
        tally, began = Tally(), time.monotonic()
        if step.breaks:
            break_knowledge(self.trial / "kard.knowledge")
        if not kills:
            self.done(step)
            return tally
        shutil.rmtree(self.saved, ignore_errors=True)
        shutil.copytree(self.trial, self.saved)
        run([*step.words, *self.place], folder=self.trial)  # a first time, for what is read from disk once
        self.restore()
        whole = self.done(step)
        expected = self.state()
        while tally.kills < kills:
            self.restore()
            self.interrupt(step, whole.writes, whole.seconds, tally)
            self.compare(expected, tally)
        self.restore()
        self.done(step)
        tally.seconds = time.monotonic() - began
        return tally

    def done(self, step: Step) -> Ended:
        """Run a step unbroken."""
        ended = run([*step.words, *self.place], folder=self.trial)
        if ended.code:
            raise RuntimeError(f"{step.name} fails unbroken: {ended.output}")
        return ended

    def interrupt(self, step: Step, writes: int, seconds: float, tally: Tally) -> None:
        """Interrupt a command once or several times, then run it to its end."""
        while True:
            at_write = self.draw.random() < 0.5
            with self.calls(step, tally):
                number = self.draw.randint(1, writes) if at_write else 0
                started = Started([*step.words, *self.place], folder=self.trial, before=number)
                if not at_write:
                    time.sleep(self.draw.random() * seconds)
                    started.kill()
                ended = started.wait(120)
            if ended.code == -9:
                tally.kills += 1
                tally.at_writes += at_write
            elif ended.code:
                self.note(tally, "failed", f"{step.name}: {ended.output[-600:]}")
            if ended.code == 0 or self.draw.random() > MORE:
                break
        with self.calls(step, tally, whole=True):
            last = run([*step.words, *self.place], folder=self.trial)
        tally.finished += 1
        if last.code:
            self.note(tally, "failed", f"{step.name}: {last.output[-600:]}")

    @contextmanager
    def calls(self, step: Step, tally: Tally, *, whole: bool = False) -> Generator[None]:
        """Compare the teacher's calls with the replies that the store got meanwhile."""
        if not step.replies:
            yield
            return
        asked, stored = sum(self.teacher.asked().values()), self.stored(step)
        yield
        time.sleep(0.1)  # a request of a killed process may still be on its way
        asked, stored = sum(self.teacher.asked().values()) - asked, self.stored(step) - stored
        if whole and asked > stored:
            self.note(tally, "paid twice", f"{step.name}: {asked} calls for {stored} replies")
        tally.under_way += asked - stored
        tally.most_under_way = max(tally.most_under_way, asked - stored)

    def stored(self, step: Step) -> int:
        """Return how many replies the store holds."""
        with closing(sqlite3.connect(self.trial / "kard.db")) as db:
            return int(db.execute(f"select count(*) from {step.replies}").fetchone()[0])

    def compare(self, expected: dict[str, Any], tally: Tally) -> None:
        """Note in what the state differs from that of the unbroken run."""
        state = self.state()
        for table, rows in expected["rows"].items():
            found = state["rows"].get(table, {})
            for row in rows.keys() | found.keys():
                less, more = rows.get(row, 0) - found.get(row, 0), found.get(row, 0) - rows.get(row, 0)
                if less > 0:
                    self.note(tally, "lost", f"{table}: {row[:300]}")
                if more > 0:
                    self.note(tally, "doubled" if row in rows else "other", f"{table}: {row[:300]}")
        if state["knowledge"] != expected["knowledge"]:
            self.note(tally, "damaged", "the knowledge base differs")
        for name, count in (Counter(state["files"]) - Counter(expected["files"])).items():
            self.note(tally, "left behind", f"{count} {name}")
        for name, count in (Counter(expected["files"]) - Counter(state["files"])).items():
            self.note(tally, "lost", f"file {count} {name}")
        for database in (self.trial / "kard.db", self.trial / "kard.knowledge" / "passages.db"):
            for problem in damage(database) if database.exists() else ():
                self.note(tally, "damaged", f"{database.name}: {problem}")

    def note(self, tally: Tally, kind: str, example: str) -> None:
        """Count a difference, and keep the first ones."""
        tally.wrong[kind] += 1
        if len(tally.examples) < 5:
            tally.examples.append(f"{kind}: {example}")


def break_knowledge(folder: Path) -> None:
    """Overwrite a part of the passages, and cut a file of the postings."""
    raw = bytearray((folder / "passages.db").read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 500] = b"\xff" * 500
    (folder / "passages.db").write_bytes(raw)
    segment = max((folder / "tantivy").glob("*.store"), key=lambda path: path.stat().st_size)
    segment.write_bytes(segment.read_bytes()[:-9])


def main() -> None:
    """Run the suite."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=500, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--step", action="append", help="kill only this one, and keep what the file has of others; repeatable"
    )
    parser.add_argument("--json", type=Path, help="keep the result in this file")
    options = parser.parse_args()
    light = set(options.step or ["all"]) <= LIGHT
    preload(light=light)
    if not light:
        from kard.student.training.checkpoint import Checkpoint

        # Trainings of two seconds would see none of the checkpoints that are made every minute.
        Checkpoint.due = lambda self: self.path is not None
    with tempfile.TemporaryDirectory() as root:
        suite = Suite(Path(root), options.seed, models=not light)
        world.fresh(suite.trial)
        every = steps(suite.world, suite.teacher.url)
        chosen = [s.name for s in every if not options.step or s.name in options.step]
        weight = sum(WEIGHTS.get(name, 1.0) for name in chosen)
        order = [step.name for step in every]
        rows = [row for row in world.recorded(options.json, "kills").get("steps", []) if row["step"] not in chosen]
        for step in every[: 1 + max(map(order.index, chosen))]:
            share = WEIGHTS.get(step.name, 1.0) / weight if step.name in chosen else 0.0
            tally = suite.test(step, round(share * options.kills))
            if tally.kills:
                rows.append(row_of(step.name, tally))
                print(rows[-1], file=sys.stderr, flush=True)
                rows.sort(key=lambda row: order.index(row["step"]))
                whole = {"kills": sum(row["kills"] for row in rows), "seed": options.seed, "steps": rows}
                world.record(options.json, "kills", whole)
        suite.teacher.stop()


def row_of(name: str, tally: Tally) -> dict[str, Any]:
    """Return what was seen of a step, as it is kept."""
    return {
        "step": name,
        "kills": tally.kills,
        "at_writes": tally.at_writes,
        "runs": tally.finished,
        **{kind: tally.wrong[kind] for kind in WRONG},
        "under_way": tally.under_way,
        "most_under_way": tally.most_under_way,
        "seconds": round(tally.seconds),
        "examples": tally.examples,
    }


if __name__ == "__main__":
    main()
