"""The steps in order. `kard run`, `status`, `evaluate` and `rebuild` are loops over this list."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import takewhile
from time import monotonic

from kard.db import execute, now, writing
from kard.errors import KardError
from kard.pipeline.contamination import SCREEN
from kard.pipeline.dense import DENSE, HYBRID
from kard.pipeline.jobs import run_step_on
from kard.pipeline.rerank import FUSE, RERANK, RERANKER
from kard.pipeline.retrieve import GROUND, RETRIEVE
from kard.pipeline.run import Run
from kard.pipeline.step import Kind, State, Step
from kard.pipeline.students import ANSWER, STUDENT
from kard.pipeline.teach import TEACH
from kard.processes import release_memory
from kard.progress import span
from kard.work.claims import claimed


def _runs_before(run: Run) -> Iterator[tuple[Run, str]]:
    """Yield the runs that come before the trainings of this one, each with the step before which it ends."""
    if run.ordering:
        yield run.ordering, "student"
    if run.explaining:
        yield run.explaining, "screen"


def _extras_state(run: Run) -> State:
    """Count orders of training questions' passages and answers to them, those that are there and those to come."""
    found = [list(_steps_until(end, before))[-1].state(before) for before, end in _runs_before(run)]
    return State("orders, answers", sum(state.done for state in found), sum(state.missing for state in found))


def _learn(run: Run) -> int:
    """Search with the training questions, let earlier students explain some; return how many were missing."""
    missing = _extras_state(run).missing
    for before, end in _runs_before(run):
        for step in _steps_until(end, before):
            run_step(before, step)
    run.refresh()
    return missing - _extras_state(run).missing


def _steps_until(end: str, run: Run, *kinds: Kind) -> Iterator[Step]:
    """Yield the steps of these kinds (or of all) before the one of that name, if they are needed when they come."""
    for step in takewhile(lambda step: step.name != end, STEPS):
        if (step.kind in kinds or not kinds) and step.needed(run):
            yield step


EXTRAS = Step(
    "training-extras",
    "train",
    "find what students learn from besides rationales",
    _extras_state,
    _learn,
    drop="internal/drop_extras",
    needed=lambda run: any(True for _ in _runs_before(run)),
    reads=("retrieve", "ground", "rerank", "fuse", "dense", "hybrid"),
)
STEPS = (TEACH, RETRIEVE, GROUND, RERANKER, RERANK, FUSE, DENSE, HYBRID, EXTRAS, STUDENT, ANSWER, SCREEN)
NAMES = tuple(step.name for step in STEPS)


def needed(run: Run, *kinds: Kind) -> list[Step]:
    """Return the steps that this run's options need, in order: of these kinds, or of all."""
    return [step for step in STEPS if (step.kind in kinds or not kinds) and step.needed(run)]


def states(run: Run, *kinds: Kind) -> Iterator[tuple[Step, State | None, str]]:
    """Yield each needed step, of these kinds, with its state, or with None and the reason when it cannot be told.

    A check is left out when it lacks nothing.
    """
    for step in needed(run, *kinds):
        try:
            state = step.state(run)
            if state.missing or step.kind != "check":
                yield step, state, ""
        except KardError as error:
            yield step, None, str(error)


def announce(run: Run, *kinds: Kind) -> None:
    """Say what needed steps of these kinds will do before anything else, where they have anything to do."""
    for step, state, _ in states(run, *kinds):
        if state and state.missing:
            run.progress.note(f"first {step.name}: {step.about} ({state.missing:,} {state.unit})")


def run_steps(run: Run, *kinds: Kind, before: str = "") -> dict[str, int]:
    """Run every needed step of these kinds (or of all) in order, as far as `before`; return what each added."""
    return {step.name: run_step(run, step) for step in _steps_until(before, run, *kinds)}


def run_step(run: Run, step: Step, *others: Run) -> int:
    """Run one step and return the units that it added; where it added any, `steps_log` gets a row.

    Workers do beside it what `others`, runs of the same store, lack of the step.
    """
    started, begin = now(), monotonic()
    with span(f"step {step.name}"), run.progress.step(step.name, step.about) as report, _alone(run, step):
        by_workers = run_step_on(run.workers, [run, *others], step) if run.workers else 0
        added = by_workers + step.run(run)
        report(added)
    if added:
        release_memory()
        run.refresh()
        if step is not EXTRAS:  # its own steps have their rows
            log_step(run, step.name, started, begin, added)
    return added


@contextmanager
def _alone(run: Run, step: Step) -> Generator[None]:
    """Claim the step: another process that shares the store waits, and then does what is still missing.

    Rationales, trainings and answers are claimed one by one where they are made.
    """
    if step.kind in ("teach", "train", "answer"):
        yield
        return
    waiting = f"waiting for another process that does the step {step.name}"
    with claimed(run.db, "step", f"{run.name} {step.name}", lambda: run.progress.note(waiting)) as waited:
        if waited:
            run.refresh()
        yield


def log_step(run: Run, name: str, started: str, begin: float, added: int, note: str = "") -> None:
    """Add a row to `steps_log`; `begin` is the monotonic time at which the step began."""
    with writing(run.db):
        run.db.table("steps_log").insert(
            {
                "task": run.name,
                "step": name,
                "started": started,
                "milliseconds": (monotonic() - begin) * 1000,
                "added": added,
                "note": note,
            }
        )


def resting_on(run: Run, name: str) -> list[Step]:
    """Return the step of that name and every step that uses its results, directly or through another, in order.

    Students rest on the orders of passages only where this run's learn from them.
    """
    names = {name}
    for step in STEPS:  # in order, so that one pass reaches everything
        if names & set(step.reads) and (step is not EXTRAS or EXTRAS.needed(run)):
            names.add(step.name)
    return [step for step in STEPS if step.name in names]


def rebuild(run: Run, name: str, *, including_paid: bool = False) -> list[str]:
    """Drop what a step made and all that came from it; return the names of the steps that lost something.

    What may have cost money stays unless `including_paid`. Adapter folders that no row names any more go too.
    """
    dropped: list[str] = []
    with writing(run.db):
        for step in resting_on(run, name):
            if step.paid and not including_paid:
                continue
            if sum(execute(run.db, drop, task=run.name) for drop in (step.drop, *step.drop_rest)) > 0:
                dropped.append(step.name)
    run.refresh()
    _remove_unnamed_adapters(run)
    return dropped


def _remove_unnamed_adapters(run: Run) -> None:
    named = {row[0] for row in run.db.execute("select path from rerankers union select path from students")}
    folders = run.adapters.iterdir() if run.adapters.is_dir() else ()
    for folder in folders:
        if folder.is_dir() and f"{run.adapters.name}/{folder.name}" not in named:
            shutil.rmtree(folder)
