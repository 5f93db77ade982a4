"""The steps in order. `kard run`, `kard status` and `kard rebuild` are loops over this list."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from time import monotonic

from kard.db import now, writing
from kard.errors import KardError
from kard.pipeline.contamination import SCREEN
from kard.pipeline.dense import DENSE, HYBRID
from kard.pipeline.rerank import FUSE, RERANK, RERANKER
from kard.pipeline.retrieve import GROUND, RETRIEVE
from kard.pipeline.run import Run
from kard.pipeline.step import State, Step
from kard.pipeline.students import ANSWER, STUDENT
from kard.pipeline.teach import TEACH

STEPS = (TEACH, RETRIEVE, GROUND, RERANKER, RERANK, FUSE, DENSE, HYBRID, STUDENT, ANSWER)
CHECKS = (SCREEN,)  # after the steps, and seen by `status` only while they lack something
NAMES = tuple(step.name for step in (*STEPS, *CHECKS))


def wanted(work: Run) -> Iterator[Step]:
    """The steps that this run's choices need."""
    for step in STEPS:
        if step in (RETRIEVE, GROUND) and not work.choices.reads:
            continue
        if step in (RERANKER, RERANK) and not work.choices.reranks:
            continue
        if step is FUSE and not work.choices.reads_from("fused"):
            continue
        if step is DENSE and not work.choices.searches:
            continue
        if step is HYBRID and not work.choices.reads_from("hybrid"):
            continue
        yield step


def states(work: Run) -> Iterator[tuple[Step, State | None, str]]:
    """Each step with its state, or None and the reason when it cannot be told yet."""
    for step in (*wanted(work), *CHECKS):
        try:
            state = step.state(work)
            if state.missing or step not in CHECKS:
                yield step, state, ""
        except KardError as error:
            yield step, None, str(error)


def run(work: Run) -> dict[str, int]:
    """Every step in order, each doing only what is missing; units added by step."""
    return {step.name: run_step(work, step) for step in (*wanted(work), *CHECKS)}


def run_step(work: Run, step: Step) -> int:
    """One step; what it added and how long it took goes to `steps_log` when it added something."""
    started, begin = now(), monotonic()
    added = step.run(work)
    if added:
        with writing(work.db):
            work.db.table("steps_log").insert(
                {
                    "task": work.task.name,
                    "step": step.name,
                    "started": started,
                    "milliseconds": (monotonic() - begin) * 1000,
                    "added": added,
                }
            )
    return added


def resting_on(name: str) -> list[Step]:
    """The step of that name and every step that reads its results, directly or through another, in order."""
    names = {name}
    for step in STEPS:  # in order, so that one pass reaches everything
        if names & set(step.needs):
            names.add(step.name)
    return [step for step in (*STEPS, *CHECKS) if step.name in names]


def rebuild(work: Run, name: str, *, including_paid: bool = False) -> list[str]:
    """Drop what a step made and all that came from it; the names of the steps that lost something.

    What was paid for stays unless `including_paid`. Adapter folders that no row names any more go too.
    """
    dropped: list[str] = []
    with writing(work.db):
        for step in resting_on(name):
            if step.paid and not including_paid:
                continue
            if work.db.execute(step.drop, {"task": work.task.name}).rowcount > 0:
                dropped.append(step.name)
    _sweep(work)
    return dropped


def _sweep(work: Run) -> None:
    """Remove the adapter folders that no row names."""
    kept = {row[0] for row in work.db.execute("select path from rerankers union select path from students")}
    if work.adapters.is_dir():
        for folder in work.adapters.iterdir():
            if folder.is_dir() and f"{work.adapters.name}/{folder.name}" not in kept:
                shutil.rmtree(folder)
