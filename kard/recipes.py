"""Recipes: the canonical record of all that went into a student, reranker or condition, and how two differ."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from kard.config import Accept
from kard.errors import BadConfig, BadInput
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
    fraction: float = 1.0  # of which this share was drawn
    draw: int = 0  # seed of that draw
    accept: Accept = "own"  # whose verdict let a rationale train
    own: int = 0  # rationales besides, that an earlier student wrote

    def values(self) -> dict[str, object]:
        """Return field names and values; what is as usual (a draw, the rule, own rationales) is left out."""
        usual = [
            *(("fraction", "draw") if self.fraction == 1 else ()),
            *(("accept",) if self.accept == "own" else ()),
            *(() if self.own else ("own",)),
        ]
        return {name: value for name, value in asdict(self).items() if name not in usual}


def recipe_of(kind: str, data: TrainingData, **decides: object) -> Recipe:
    """Return the recipe of a trained thing; `decides` holds task, base, hash of the base's weights and settings."""
    return {"kind": kind, **decides, "data": data.values()}


def recipe_id(recipe: Recipe) -> str:
    """Return the id of what the recipe makes: its hash, in which base and training data count by content."""
    decides = {name: value for name, value in recipe.items() if name != "base"}
    return digest(canonical({**decides, "data": recipe["data"]["sha256"]}))


@contextmanager
def stored_settings(owner: str) -> Generator[None]:
    """Turn what goes wrong within, while a `settings` column is read, into BadInput that names its owner."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, BadConfig) as error:
        problem = f"the settings of {owner} in the store cannot be read ({' '.join(str(error).split())})"
        raise BadInput(f"{problem}; drop its step with kard rebuild, then run again") from error


def read_recipe(text: str) -> Recipe:
    """Return the recipe of a `recipe` column."""
    return json.loads(text)


def recipe_column(recipe: Recipe) -> str:
    """Return a recipe in the form of a `recipe` column."""
    return canonical(recipe)


def differences(recipe: Recipe, other: Recipe) -> list[str]:
    """Return in what the first recipe differs from the second, in words; [] if they make the same thing.

    A recipe may hold the recipes of its parts: the words for a part begin with the part's name.
    """
    return list(_differences("", recipe, other))


def without_seeds(recipe: Recipe) -> Recipe:
    """Return the recipe without its seeds and those of its parts."""
    return {
        name: without_seeds(value) if isinstance(value, dict) else value
        for name, value in recipe.items()
        if name != "seed"
    }


def _differences(part: str, recipe: Recipe, other: Recipe) -> Iterator[str]:
    """Yield the differences; `part` is what stands before a name: '', `student.` or `student.lora.`."""
    if "method" in recipe and ("base" in recipe) != ("base" in other):  # a rule has nothing else that a student has
        yield f"{part}method {_shown(recipe['method'])} instead of {_shown(other.get('method'))}"
        return
    for words in _data_differences(recipe.get("data"), other.get("data")):
        yield f"{part.replace('.', ' ')}{words}"
    for name in dict.fromkeys([*recipe, *other]):
        mine, theirs = recipe.get(name), other.get(name)
        if mine == theirs or name in ("data", "base") or (name == "decoding" and {} in (mine, theirs)):
            continue  # only a rule decodes nothing
        if name == "base_sha256":  # the base counts by its weights; its name says the same in fewer letters
            base, others = recipe.get("base"), other.get("base")
            same = base == others
            yield f"{part}base {_shown(base)} {'of other weights' if same else f'instead of {_shown(others)}'}"
        elif isinstance(mine, dict) and isinstance(theirs, dict):
            yield from _differences(part if name == "settings" else f"{part}{name}.", mine, theirs)
        else:
            yield f"{part}{name} {_shown(mine)} instead of {_shown(theirs)}"


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


def _shown(value: object) -> str:
    if isinstance(value, dict):  # a part that the other has not
        return recipe_id(value) if "data" in value else canonical(value)
    return "none" if value is None else str(value)
