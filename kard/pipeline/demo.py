"""The demo: a world that exists nowhere, its questions, its teacher, and the whole pipeline over them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kard.errors import BadConfig
from kard.pipeline.run import Run
from kard.pipeline.steps import run_steps
from kard.tasks import Task

if TYPE_CHECKING:
    from kard.tasks import World


@dataclass(frozen=True, slots=True)
class Size:
    """How large a demo is; the world's seed and the trainings' are one number."""

    passages: int = 5_200
    train: int = 300
    test: int = 100
    seed: int = 0


QUICK = Size(passages=1_000, train=24, test=24)
"""Goes through every step in about a minute; too little training to claim any accuracy."""

TEACHER = "oracle"


def world_of(task: Task, size: Size) -> World:
    """Return the task's generated world. Raises ValueError when the task has none."""
    if task.world is None:
        raise ValueError(f"{task.name} has no world")
    return task.world(passages=size.passages, train=size.train, test=size.test, seed=size.seed)


def prepare(run: Run, world: World) -> None:
    """Index the world's documents and load its questions; nothing is added when that was done before.

    Raises BadConfig when the store holds questions of another world: each needs a store of its own.
    """
    from kard.knowledge.indexing import index_documents
    from kard.pipeline.load import store_questions

    stored = run.db.execute("select key from questions where task = ?", [run.name])
    if {row[0] for row in stored} - {question.key for question in world.questions}:
        raise BadConfig(
            f"{run.store} holds a world of another seed or size; keep both with: kard demo --store OTHER.db"
        )
    index_documents(world.documents, run.knowledge, source=run.name, progress=run.progress)
    store_questions(run.db, run.name, list(world.questions))


def quickened(run: Run) -> Run:
    """Return the run with the least training that still goes through every step."""
    settings = run.options.settings
    quick = replace(
        settings, student=replace(settings.student, epochs=1), teaching=replace(settings.teaching, samples=1)
    )
    run.options = replace(run.options, settings=quick)
    return run


def run_demo(run: Run, world: World) -> dict[str, int]:
    """Run the whole pipeline over the world; return the units that each step added."""
    prepare(run, world)
    return run_steps(run)
