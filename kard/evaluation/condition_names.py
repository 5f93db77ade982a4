"""What conditions are called: labels that tell them apart, their order in tables, and which one a person means.

A condition has a size, a method and a retriever. Where two have the same three, a label names what else differs:
`k=1` beside `k=3`. A person may write `kard/reranker` for (135m, kard, reranker), or `rer` if that is clear.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations, count
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote

from kard.db import rows
from kard.errors import BadInput
from kard.methods import NO_MODEL

if TYPE_CHECKING:
    from sqlite_utils import Database

# The order of the paper's table: by method, then by the source of the passages.
METHOD_ORDER = ("named", "zero-shot", "few-shot", "few-shot-cot", "ft", "ka-ft", "rd", "kard")
RETRIEVER_ORDER = ("none", "shuffled", "bm25", "dense", "hybrid", "reranker", "fused", "silver")
SHORT = 6  # hex digits of a hash in a label
IDS: Mapping[str, str] = {"mix": "retriever_id", "reranker": "reranker_id", "student": "student_id"}
HASHES = ("data", "index", "base", "reranker.data", "reranker.base", "mix.base", "hybrid.labels", *IDS)
# Settings of a retriever that follow from its reranker, or were chosen for it.
TUNED = ("kind", "weight", "unit", "dense", "passages", "questions")
# Columns of `condition_settings` that name a run or hold settings, which are compared one by one.
SEEDED = ("evaluation_id", "student_id", "reranker_id", "retriever_id", "seed", "reranker_seed", "size", "method",
          "retriever", "decoding", "training", "reranker", "mixing", "documents")  # fmt: skip

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmbt])", re.I)
_SPACE = re.compile(r"[\s%]")
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}

Row = Mapping[str, Any]
Fields = Mapping[str, str]
Thing = TypeVar("Thing")
NameParts = Sequence[str]


def table_order(size: str, method: str, retriever: str) -> tuple[object, ...]:
    """Return the sort key of a condition in every table: by size, then the paper's methods and retrievers."""
    return (size_order(size), _position(METHOD_ORDER, method), _position(RETRIEVER_ORDER, retriever))


def size_order(size: str) -> tuple[float, str]:
    """Return the sort key of a size: the number of parameters in its name, then the name.

    What has no model comes first, and a name without a number last.
    """
    if size == NO_MODEL:
        return (0.0, size)
    match = _SIZE.search(size)
    return (float(match[1]) * _UNITS[match[2].lower()] if match else float("inf"), size)


def _position(order: Sequence[str], name: str) -> tuple[int, str]:
    """Return the sort key of a name; unknown names come last, in alphabetical order."""
    return (order.index(name) if name in order else len(order), name)


@dataclass(frozen=True, slots=True)
class ConditionInfo:
    """A stored condition: a row of `evaluations` with its student and its label."""

    evaluation_id: int
    size: str
    method: str
    seed: int
    retriever: str
    k: int  # passages in the prompt
    index_id: str | None
    reranker_id: str | None
    retriever_id: str | None = None  # of a fused, dense or hybrid retriever
    kappa: int | None = None  # passages that the retriever ordered; None where it orders none
    variant: str = ""  # what else tells it from conditions of its size, method and retriever

    @classmethod
    def of(cls, row: Mapping[str, Any], labels: Mapping[int, str]) -> ConditionInfo:
        """Return the condition of a row of the query `answers`; `labels` are by evaluation id."""
        return cls(
            **{name: row[name] for name in cls.__slots__ if name != "variant"},
            variant=labels.get(row["evaluation_id"], ""),
        )

    @property
    def name(self) -> str:
        """Return what people call it: `135m kard, reranker k=3, seed 1`."""
        return f"{self.label}, seed {self.seed}"

    @property
    def label(self) -> str:
        """Return the name without its seed, for tables where all conditions have the same seed."""
        words = self.variant.split()
        if self.retriever != "none" and not any(word.startswith("k=") for word in words):
            words.insert(0, f"k={self.k}")
        reads = self.retriever if self.retriever != "none" else "no passages"
        return f"{self.size} {self.method}, {' '.join([reads, *words])}"

    @property
    def order(self) -> tuple[object, ...]:
        """Return the sort key in tables: size, method and retriever as in the paper's table, then the rest."""
        rest = (self.variant, self.k, self.seed, self.evaluation_id)
        return (table_order(self.size, self.method, self.retriever), *rest)


def read_labels(db: Database, task: str, split: str) -> dict[int, str]:
    """Return the label of each evaluation of a split, by its id."""
    return condition_labels(rows(db, "internal/condition_settings", task=task, split=split))


def condition_labels(runs: Sequence[Row]) -> dict[int, str]:
    """Return a label for each evaluation id: what differs among the conditions of its size, method and retriever.

    `runs` are rows of the query `condition_settings`; every column counts. Runs that differ by their seeds alone,
    and by what training made of these, are one condition and have one label. It is '' where nothing else differs.
    No two conditions have the same label. Where conditions read from several states of the documents, the label of
    each names when its own were indexed.
    """
    documents = index_dates(runs)
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for run in runs:
        groups[run["size"], run["method"], run["retriever"]].append(run)
    labels: dict[int, str] = {}
    for group in groups.values():
        fields = [_without_seeds(run) for run in group]
        for run, of_run in zip(group, fields, strict=True):
            if when := documents.get(str(run.get("index"))):
                of_run["documents"] = when
        for more in (_reranker_seed, _tuned, *map(_id_of, IDS), _evaluation):
            for alike in _alike(fields):
                if not _are_seeds([group[i] for i in alike]):
                    for i in alike:
                        fields[i] |= more(group[i])
        labels.update((run["evaluation_id"], label) for run, label in zip(group, _shown(fields), strict=True))
    return labels


def index_dates(found: Iterable[Row], name: str = "index") -> dict[str, str]:
    """Return when indexes that rows name were made, each its own name; {} for a single one."""
    made = {str(row[name]): str(row["documents"]) for row in found if row.get("documents")}
    if len(made) < 2:
        return {}
    for length in (10, 16, 19):  # to the day, the minute or the second
        if len({when[:length] for when in made.values()}) == len(made):
            return {index: when[:length] for index, when in made.items()}
    return {index: f"{when[:10]}-{index[:SHORT]}" for index, when in made.items()}


def _alike(fields: Sequence[Fields]) -> list[list[int]]:
    """Return the indices of equal fields, together."""
    indices: dict[object, list[int]] = defaultdict(list)
    for i, of_run in enumerate(fields):
        indices[frozenset(of_run.items())].append(i)
    return list(indices.values())


def _are_seeds(runs: Sequence[Row]) -> bool:
    """Return whether runs with equal fields are seeds of one condition.

    A student's seed has one evaluation, a reranker's seed one reranker, and a reranker one retriever that uses it.
    """
    determined = (
        ("seed", "evaluation_id"),
        ("reranker_seed", "reranker_id"),
        ("reranker_id", "retriever_id"),
    )
    return all(len({run[by] for run in runs}) == len({(run[by], run[id]) for run in runs}) for by, id in determined)


def _shown(fields: Sequence[Fields]) -> list[str]:
    """Return for each run the fields that differ among all, as `name=value`.

    What a run lacks is unknown and not shown. Hashes, and what some runs lack, are shown only where the rest does
    not tell two conditions apart.
    """
    values = {name: {of_run[name] for of_run in fields if name in of_run} for of_run in fields for name in of_run}
    lengths = {name: _length(values[name]) for name in HASHES if name in values}
    names = [n for n in values if (len(values[n]) > 1 or n == "documents") and n not in HASHES]
    labels = [_label(of_run, names, lengths) for of_run in fields]
    conditions = len(_alike(fields))
    for name in sorted(values.keys() - names, key=lambda name: (name in HASHES, list(values).index(name))):
        longer = [_label(of_run, [*names, name], lengths) for of_run in fields]
        if len(set(labels)) < conditions and len(set(longer)) > len(set(labels)):
            names, labels = [*names, name], longer
    return labels


def _length(hashes: Set[str]) -> int:
    """Return how many characters tell these hashes apart, `SHORT` at least."""
    return next(n for n in count(SHORT) if len({hash[:n] for hash in hashes}) == len(hashes))


def _label(fields: Fields, names: Sequence[str], lengths: Mapping[str, int]) -> str:
    """Return the named fields as words: without spaces, and hashes cut to `lengths`."""
    values = {name: _SPACE.sub(lambda match: quote(match[0]), fields[name]) for name in names if name in fields}
    return " ".join(f"{name}={value[: lengths.get(name)]}" for name, value in values.items())


def _without_seeds(run: Row) -> dict[str, str]:
    """Return everything that decides the answers of a run, without seeds and what follows from them.

    Settings of a training have its name in front: `train.k` is not the `k` that the student reads. What was chosen
    on held-out questions for a trained reranker follows from its seed. So do texts and held-out
    questions that were drawn.
    """
    decoding, training, mixing = (_settings(run[column]) for column in ("decoding", "training", "mixing"))
    if "lora.rank" in training:  # a trained student; `full` is stored only where it is true
        training = {"full": "False", **training}
    samples = decoding.pop("samples", "1")
    if samples == "1":  # greedy decoding uses neither
        decoding = {name: value for name, value in decoding.items() if name not in ("temperature", "top_p")}
    if run["reranker_id"]:
        mixing = {name: value for name, value in mixing.items() if name not in TUNED}
    share, reranker_share = run.get("fraction") is not None, run.get("reranker.fraction") is not None
    shown = "shots" in training or training.get("shuffle") == "True" or float(training.get("wrong", 0)) > 0
    drawn = {
        "data": shown or share,
        "examples": float(training.get("held_out", 0)) > 0 or share,
        "reranker.data": reranker_share,
        "reranker.questions": reranker_share,
    }
    columns = {
        name: str(value)
        for name, value in run.items()
        if value is not None and name not in SEEDED and not drawn.get(name)
    }
    fields = {
        **{name: columns[name] for name in ("k", "kappa") if name in columns},
        "n": samples,
        **{f"decoding.{name}" if name in (*columns, "n") else name: value for name, value in decoding.items()},
        **_named("prompt" if "shots" in training else "train", training),
        **_named("reranker", _settings(run["reranker"])),
        **_named(run["retriever"], {name: value for name, value in mixing.items() if name not in columns}),
        **columns,
    }
    return {name: value for name, value in fields.items() if name.rpartition(".")[2] != "seed"}


def _named(prefix: str, settings: Fields) -> dict[str, str]:
    return {f"{prefix}.{name}": value for name, value in settings.items()}


def _reranker_seed(run: Row) -> dict[str, str]:
    return {} if run["reranker_seed"] is None else {"reranker.seed": str(run["reranker_seed"])}


def _tuned(run: Row) -> dict[str, str]:
    return _named(run["retriever"], _settings(run["mixing"]))


def _id_of(name: str) -> Callable[[Row], dict[str, str]]:
    return lambda run: {name: str(run[IDS[name]])} if run[IDS[name]] else {}


def _evaluation(run: Row) -> dict[str, str]:
    return {"run": str(run["evaluation_id"])}


def _settings(text: object) -> dict[str, str]:
    """Return a `settings` column as names and values, nested ones as `lora.rank`; {} for an empty column."""
    settings: dict[str, str] = {}

    def flatten(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for name, inner in cast("dict[str, Any]", value).items():
                flatten(f"{prefix}.{name}" if prefix else name, inner)
        else:
            settings[prefix] = str(value)

    flatten("", json.loads(str(text)) if text else {})
    return settings


def matching(word: str, names: Mapping[Thing, NameParts]) -> list[Thing]:
    """Return the things that the word may name, in their order.

    The parts of the word, between slashes, are parts of a thing's name or their beginnings, in order, with gaps.
    Only the things with the most whole parts are returned: `few-shot` does not name `few-shot-cot`.
    """
    parts = [part for part in word.strip().split("/") if part]
    scores = {thing: _whole_parts(parts, name) for thing, name in names.items()}
    best = max(scores.values(), default=-1)
    return [thing for thing, score in scores.items() if score == best >= 0]


def match_one(word: str, names: Mapping[Thing, NameParts], kind: str) -> Thing:
    """Return the only thing that the word may name. Raises BadInput with the candidates if it is not one."""
    things = matching(word, names)
    if len(things) == 1:
        return things[0]
    if things:
        raise BadInput(f"{word!r} may mean {joined(names[thing] for thing in things)}; name one of them")
    raise BadInput(f"no {kind} {word!r}; there are {joined(names.values())}")


def joined(names: Iterable[NameParts]) -> str:
    """Return several names for a message: `135m/kard/bm25, 135m/rd`."""
    return ", ".join("/".join(parts) for parts in names)


def _whole_parts(parts: NameParts, name: NameParts) -> int:
    """Return how many of the parts are whole parts of the name, at best; -1 if they do not match it."""
    if not parts:
        return -1
    best = -1
    for candidates in combinations(name, len(parts)):
        pairs = list(zip(parts, candidates, strict=True))
        if all(candidate.startswith(part) for part, candidate in pairs):
            best = max(best, sum(part == candidate for part, candidate in pairs))
    return best
