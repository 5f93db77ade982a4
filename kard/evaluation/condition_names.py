"""What conditions are called: labels that tell them apart, their order in tables, and which one a person means.

A condition has a size, a method and a retriever. Where two have the same three, a label names what else differs:
`k=1` beside `k=3`. A person may write `kard/reranker` for (135m, kard, reranker), or `rer` if that is clear.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, TypeVar, cast

from kard.db import rows
from kard.errors import BadInput

if TYPE_CHECKING:
    from sqlite_utils import Database

# The order of the paper's table: by method, then by the source of the passages.
METHOD_ORDER = ("zero-shot", "few-shot", "few-shot-cot", "ft", "ka-ft", "rd", "kard")
RETRIEVER_ORDER = ("none", "shuffled", "bm25", "dense", "hybrid", "reranker", "fused", "silver")
SHORT = 6  # hex digits of a hash in a label

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmbt])", re.I)
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}

Row = Mapping[str, Any]
Fields = Mapping[str, str]
Thing = TypeVar("Thing")
NameParts = Sequence[str]


def table_order(size: str, method: str, retriever: str) -> tuple[object, ...]:
    """Return the sort key of a condition in every table: by size, then the paper's methods and retrievers."""
    return (size_order(size), _position(METHOD_ORDER, method), _position(RETRIEVER_ORDER, retriever))


def size_order(size: str) -> tuple[float, str]:
    """Return the sort key of a size: the number of parameters in its name, then the name. Others come last."""
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
    kappa: int | None = None  # candidates that the reranker ordered; None for the task's own number
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
    """Return a label for each evaluation id: what differs among the runs of its size, method and retriever.

    `runs` are rows of the query `condition_settings`. The label is '' if nothing differs, or only the seed:
    runs that differ by their seed alone are one condition. Chosen values (settings, number of examples) come first.
    Hashes of the inputs, and at last the student, are added only where two runs of one seed would share a label.
    """
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for run in runs:
        groups[run["size"], run["method"], run["retriever"]].append(run)
    labels: dict[int, str] = {}
    for group in groups.values():
        of_group = [""] * len(group)
        for fields in (_chosen, _inputs, _identity):
            ambiguous = set(range(len(group))) if fields is _chosen else _ambiguous(group, of_group)
            additions = _differences([fields(group[i]) for i in sorted(ambiguous)])
            for i, addition in zip(sorted(ambiguous), additions, strict=True):
                of_group[i] = f"{of_group[i]} {addition}".strip()
        labels.update((run["evaluation_id"], label) for run, label in zip(group, of_group, strict=True))
    return labels


def _ambiguous(group: Sequence[Row], labels: Sequence[str]) -> set[int]:
    """Return the indices of the runs whose label stands for two runs of one seed."""
    indices: dict[tuple[str, object], list[int]] = defaultdict(list)
    for i, (run, label) in enumerate(zip(group, labels, strict=True)):
        indices[label, run["seed"]].append(i)
    repeated = {label for (label, _), of_seed in indices.items() if len(of_seed) > 1}
    return {i for i, label in enumerate(labels) if label in repeated}


def _differences(runs: Sequence[Fields]) -> list[str]:
    """Return for each run its fields that are not the same for all, as `name=value`.

    A field that some runs lack is a setting that was added later. It says nothing about the older runs.
    """
    shared = [name for name in (runs[0] if runs else ()) if all(name in fields for fields in runs)]
    varying = [name for name in shared if len({fields[name] for fields in runs}) > 1]
    return [" ".join(f"{name}={fields[name]}" for name in varying) for fields in runs]


def _chosen(run: Row) -> Fields:
    """Return what a person chose, without the seed."""
    decoding, training = _settings(run["decoding"]), _settings(run["training"])
    if "lora.rank" in training:  # a trained student; `full` is stored only where it is true
        training = {"full": "False", **training}
    samples = decoding.pop("samples", "1")
    if samples == "1":  # greedy decoding uses neither
        decoding = {name: value for name, value in decoding.items() if name not in ("temperature", "top_p")}
    reranker = {f"reranker.{name}": value for name, value in _settings(run["reranker"]).items()}
    fields = {
        "k": str(run["k"]),
        "n": samples,
        **decoding,
        **training,
        **reranker,
        "examples": str(run["examples"]),
    }
    return {name: value for name, value in fields.items() if name.rpartition(".")[2] != "seed"}


def _inputs(run: Row) -> Fields:
    """Return the beginnings of the hashes of data, index, reranker and base."""
    columns: Mapping[str, str] = {"data": "data", "index": "index_id", "reranker": "reranker_id", "base": "base"}
    return {label: str(run[column])[:SHORT] for label, column in columns.items() if run[column]}


def _identity(run: Row) -> Fields:
    return {"student": str(run["student_id"])[:SHORT], "run": str(run["evaluation_id"])}


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
