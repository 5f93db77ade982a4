"""Recipes: the canonical record of all that went into a student or a reranker, and how two of them differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kard.records import canonical, digest

Recipe = Mapping[str, Any]
"""JSON. What decides the result is hashed; `data` also says in plain numbers where the training data came from."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What was trained on. `sha256` covers every text and order; the other fields say where they came from."""

    sha256: str
    questions: int
    rationales: int
    teacher: str | None  # id
    index: str | None  # id of the knowledge base's state; None where nothing was read
    limit: int | None = None  # only the first so many training questions were considered
    skip: int = 0  # of which the first so many were left out


def recipe_of(kind: str, data: TrainingData, **decides: object) -> Recipe:
    """Return the recipe of a trained thing; `decides` holds task, base, hash of the base's weights and settings."""
    return {"kind": kind, **decides, "data": asdict(data)}


def recipe_id(recipe: Recipe) -> str:
    """Return the id of what the recipe makes: its hash, in which base and training data count by content."""
    decides = {name: value for name, value in recipe.items() if name != "base"}
    return digest(canonical({**decides, "data": recipe["data"]["sha256"]}))


def read_recipe(text: str) -> Recipe:
    """Return the recipe of a `recipe` column."""
    return json.loads(text)


def recipe_column(recipe: Recipe) -> str:
    """Return a recipe in the form of a `recipe` column."""
    return canonical(recipe)


def differences(recipe: Recipe, other: Recipe) -> list[str]:
    """Return in what the first recipe differs from the second, in words; [] if they make the same thing."""
    words = list(_data_differences(recipe.get("data"), other.get("data")))
    first, second = dict(_flat("", recipe)), dict(_flat("", other))
    for name in dict.fromkeys([*first, *second]):
        mine, theirs = first.get(name), second.get(name)
        if mine != theirs:
            words.append(f"{name.removeprefix('settings.')} {_shown(mine)} instead of {_shown(theirs)}")
    return words


def _data_differences(data: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> Iterator[str]:
    if data is None or other is None or data["sha256"] == other["sha256"]:
        return
    count, others = data["questions"], other["questions"]
    if count != others:
        yield (
            f"trained on {count} of {others} questions"
            if count < others
            else f"trained on {count} questions, not {others}"
        )
    elif data["rationales"] != other["rationales"]:
        yield f"trained on {data['rationales']} rationales instead of {other['rationales']}"
    if data["teacher"] != other["teacher"]:
        yield f"rationales of teacher {_shown(data['teacher'])} instead of {_shown(other['teacher'])}"
    if data["index"] != other["index"]:
        yield f"passages of knowledge base {_shown(data['index'])} instead of {_shown(other['index'])}"
    elif count == others and data["teacher"] == other["teacher"] and data["rationales"] == other["rationales"]:
        yield "trained on other texts of the same questions"


def _flat(prefix: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if prefix or name != "data":
                yield from _flat(f"{prefix}.{name}" if prefix else name, inner)
    else:
        yield prefix, value


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
