"""In what two students, two rerankers or two conditions differ."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from kard.config import EVALUATION_SPLITS
from kard.db import rows
from kard.errors import BadInput
from kard.evaluation.compare import name_parts
from kard.evaluation.condition_names import condition_labels, matching
from kard.recipes import Recipe, differences, read_recipe, without_seeds

if TYPE_CHECKING:
    from sqlite_utils import Database

SEEDS = "nothing but the seed"
LISTED = 6  # things that a message names


@dataclass(frozen=True, slots=True)
class Thing:
    """A student, a reranker, or a condition with the rows of its seeds."""

    kind: Literal["student", "reranker", "condition"]
    name: str  # an id, or the parts of a condition's name with slashes between them
    ids: tuple[str | int, ...]
    task: str = ""  # of a condition
    split: str = ""  # of a condition

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def two_of_a_kind(
    db: Database, first: str, second: str, *, task: str | None = None, split: str | None = None
) -> tuple[Thing, Thing]:
    """Return what two words mean: students or rerankers by the beginnings of their ids, or conditions.

    A condition has a name as in `kard compare`, or its number, `evaluation_id` in the canned queries.
    Raises BadInput for a word that means nothing or several things, and for things of different kinds.
    """
    conditions = _conditions(db, task, split)
    meant = [_meant(db, word, conditions, split) for word in (first, second)]
    for word, things in zip((first, second), meant, strict=True):
        if not things:
            where = "kard models and kard query conditions"
            raise BadInput(f"no student, reranker or condition {word!r}; see them with: {where}")
    kinds = {thing.kind for thing in meant[0]} & {thing.kind for thing in meant[1]}
    if not kinds:
        raise BadInput(f"{meant[0][0]} and {meant[1][0]} are of different kinds; name two of one kind")
    for number, word in enumerate((first, second)):
        meant[number] = [thing for thing in meant[number] if thing.kind in kinds]
        if len(meant[number]) > 1:
            several = len({thing.task for thing in meant[number]}) > 1
            advice = "name the task after them" if several else "name one of them"
            raise BadInput(f"{word!r} may mean {', '.join(map(str, meant[number][:LISTED]))}; {advice}")
    return meant[0][0], meant[1][0]


def words_for(db: Database, thing: Thing, other: Thing) -> list[str]:
    """Return in what the first thing differs from the second, in words: [] if they are the same.

    Of conditions with several seeds, the two that are most alike are compared. Reports pool conditions of one name:
    what training and tuning made of another seed is no other condition.
    """
    alike: list[list[str]] = []
    for mine, theirs in product(_recipes(db, thing), _recipes(db, other)):
        words = differences(mine, theirs)
        alone = bool(words) and not differences(without_seeds(mine), without_seeds(theirs))
        alike.append([SEEDS] if alone else words)
    words = min(alike, key=lambda words: (len(words), words == [SEEDS]))
    same = thing.kind == "condition" and replace(thing, ids=()) == replace(other, ids=())
    return [SEEDS] if same and words else words


def _meant(db: Database, word: str, conditions: Sequence[Thing], split: str | None) -> list[Thing]:
    """Return everything that the word may mean."""
    trained = [Thing(row["kind"], row["id"], (row["id"],)) for row in rows(db, "internal/things_like", id=word)]
    if exact := [thing for thing in trained if thing.name == word]:
        return exact
    number = int(word) if word.isdecimal() else 0
    if numbered := [replace(thing, ids=(number,)) for thing in conditions if number in thing.ids]:
        return [*trained, *numbered]
    asked = [thing for thing in conditions if thing.split == (split or _default_split(conditions, thing.task))]
    return [*trained, *matching(word, {thing: thing.name.split("/") for thing in asked})]


def _default_split(conditions: Sequence[Thing], task: str) -> str:
    """Return the split of a task that reports show unless told otherwise."""
    splits = [thing.split for thing in conditions if thing.task == task]
    return next((split for split in EVALUATION_SPLITS if split in splits), splits[0])


def _conditions(db: Database, task: str | None, split: str | None) -> list[Thing]:
    """Return the answered conditions of a task or of all, each with its evaluations."""
    things: dict[Thing, list[int]] = defaultdict(list)
    for of_task, of_split in db.execute("select distinct task, split from evaluations order by task, split"):
        if task not in (None, of_task) or split not in (None, of_split):
            continue
        runs = rows(db, "internal/condition_settings", task=of_task, split=of_split)
        labels = condition_labels(runs)
        for run in runs:
            number = run["evaluation_id"]
            parts = name_parts((run["size"], run["method"], run["retriever"], labels[number]))
            things[Thing("condition", "/".join(parts), (), of_task, of_split)].append(number)
    return [replace(thing, ids=tuple(numbers)) for thing, numbers in things.items()]


def _recipes(db: Database, thing: Thing) -> list[Recipe]:
    """Return the recipes of a thing's rows, in which teachers have names where these tell them apart."""
    if thing.kind == "condition":
        recipes = [_condition_recipe(rows(db, "internal/condition_recipe", evaluation=i)[0]) for i in thing.ids]
    else:
        recipes = [read_recipe(row["recipe"]) for row in rows(db, "internal/things_like", id=thing.name)]
    teachers = {str(id): str(name) for id, name in db.execute("select id, name from teachers")}
    names = list(teachers.values())
    return [
        _renamed(recipe, {id: name for id, name in teachers.items() if names.count(name) == 1})
        for recipe in recipes
    ]


def _condition_recipe(row: dict[str, Any]) -> Recipe:
    """Return the recipe of a condition, which holds those of its student and reranker."""
    recipe = {name: value for name, value in row.items() if name not in ("mix_base", "mix_sha256", "mixing")}
    mixing = row["mixing"] and {
        "base": row["mix_base"],
        "base_sha256": row["mix_sha256"],
        "settings": json.loads(row["mixing"]),
    }
    parts = {name: row[name] and read_recipe(row[name]) for name in ("student", "reranker")}
    return {**recipe, **parts, "decoding": json.loads(row["decoding"]), "mix": mixing}


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """Return a recipe with `names` in place of the ids of teachers."""
    if not isinstance(value, dict):
        return value
    return {key: names.get(v, v) if key == "teacher" else _renamed(v, names) for key, v in value.items()}
