"""What a step of the pipeline is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

from kard.config import Settings
from kard.evaluation.condition import Condition
from kard.pipeline.options import RunOptions
from kard.pipeline.run import Run
from kard.recipes import Recipe, TrainingData, differences
from kard.records import canonical

Kind = Literal["teach", "find", "train", "answer", "check"]
"""What a step makes: rationales, which may cost money; orders of passages; adapters; answers; warnings."""


@dataclass(frozen=True, slots=True)
class State:
    """How far a step is, in its own units. `outdated` counts what other settings or other data made."""

    unit: str
    done: int
    missing: int
    outdated: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the pipeline. It commits each unit when it is done and adds nothing on a second run.

    `run` does what is missing and returns the number of units that it added. `drop` names the statement that
    deletes what the step made, `drop_rest` what it left besides; their only parameter is :task. `parts` cuts what
    is missing into at most so many runs of the step, after which nothing of it is missing.
    """

    name: str
    kind: Kind
    about: str
    state: Callable[[Run], State]
    run: Callable[[Run], int]
    drop: str
    drop_rest: tuple[str, ...] = ()
    needed: Callable[[Run], bool] = lambda run: True
    reads: tuple[str, ...] = ()  # names of the steps whose results it uses
    parts: Callable[[Run, int], Iterable[RunOptions]] | None = None
    conditions: Callable[[Run], Sequence[Condition]] | None = None  # under which it answers, with a student each

    @property
    def paid(self) -> bool:
        """Whether its results may have cost money: `rebuild` keeps them unless told otherwise."""
        return self.kind == "teach"


def cut(run: Run, questions: Sequence[int], parts: int) -> list[RunOptions]:
    """Return the options of at most so many runs, each of which does a share of these questions."""
    size = max(1, ceil(len(questions) / parts))
    shares = [tuple(questions[start : start + size]) for start in range(0, len(questions), size)]
    return [replace(run.options, only=share) for share in shares]


def differs(recipe: Recipe, settings: Settings, data: TrainingData) -> str:
    """Return in words how what was made before differs from what these settings and data would make now."""
    now = {**recipe, "settings": json.loads(canonical(settings.values())), "data": data.values()}
    return "; ".join(differences(recipe, now))


def count_others(stored: Iterable[Sequence[str]], current: Iterable[Sequence[str]]) -> int:
    """Return how many results differ from all current ones by more than the seed. The last field has settings."""

    def unseeded(fields: Sequence[str]) -> tuple[str, ...]:
        settings = {name: value for name, value in json.loads(fields[-1]).items() if name != "seed"}
        return *fields[:-1], canonical(settings)

    alike = {unseeded(fields) for fields in current}
    return sum(unseeded(fields) not in alike for fields in stored)


def evaluated_ids(run: Run) -> list[int]:
    """Return the row ids of the evaluated questions."""
    return list(run.evaluated.read(run.db))
