"""What tells conditions apart that have one size, method and retriever: `k=1` beside `k=3`, one seed from another.

Pure over the rows of the query `runs`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from kard.db import rows

if TYPE_CHECKING:
    from sqlite_utils import Database

Row = Mapping[str, object]
Facts = Mapping[str, str]
SHORT = 6  # hex digits of a hash that a label shows


def graded_rows(db: Database, task: str, split: str) -> list[dict[str, object]]:
    """The rows of the query `graded`, each with its `variant`."""
    labels = variants(rows(db, "internal/condition_settings", task=task, split=split))
    found = rows(db, "internal/graded_answers", task=task, split=split)
    return [{**row, "variant": labels[int(str(row["evaluation_id"]))]} for row in found]


def variants(runs: Sequence[Row]) -> dict[int, str]:
    """A label for each run, by the id of its evaluation: what differs among those of its size, method, retriever.

    '' where nothing does. Runs that differ by their seed alone have one label: they are one condition. What was
    chosen is named first (settings, number of examples); the data, the index, the reranker and at last the
    student only where two runs of one seed would bear the same label.
    """
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for run in runs:
        groups[run["size"], run["method"], run["retriever"]].append(run)
    labels: dict[int, str] = {}
    for group in groups.values():
        found = [""] * len(group)
        for facts in (_chosen, _made, _itself):
            clashing = _clashing(group, found) if facts is not _chosen else set(range(len(group)))
            more = _differences([facts(group[i]) for i in sorted(clashing)])
            for i, words in zip(sorted(clashing), more, strict=True):
                found[i] = f"{found[i]} {words}".strip()
        labels.update((int(str(run["evaluation_id"])), label) for run, label in zip(group, found, strict=True))
    return labels


def _clashing(group: Sequence[Row], labels: Sequence[str]) -> set[int]:
    """Places of the runs whose label holds two runs of one seed."""
    places: dict[tuple[str, object], list[int]] = defaultdict(list)
    for i, (run, label) in enumerate(zip(group, labels, strict=True)):
        places[label, run["seed"]].append(i)
    twice = {label for (label, _), some in places.items() if len(some) > 1}
    return {i for i, label in enumerate(labels) if label in twice}


def _differences(facts: Sequence[Facts]) -> list[str]:
    """Of each, the facts that are not the same for all, as `name=value`.

    A fact that some do not have is a setting that came later: it says nothing about the older ones.
    """
    names = [name for name in (facts[0] if facts else ()) if all(name in one for one in facts)]
    varying = [name for name in names if len({one[name] for one in facts}) > 1]
    return [" ".join(f"{name}={one[name]}" for name in varying) for one in facts]


def _chosen(run: Row) -> Facts:
    """What a person chose, without the seed."""
    decoding, training = _settings(run["decoding"]), _settings(run["training"])
    if "lora.rank" in training:  # of a trained student; what is not set is not kept
        training = {"full": "False", **training}
    samples = decoding.pop("samples", "1")
    if samples == "1":  # greedy decoding has neither
        decoding = {name: value for name, value in decoding.items() if name not in ("temperature", "top_p")}
    reranker = {f"reranker.{name}": value for name, value in _settings(run["reranker"]).items()}
    chosen = {
        "k": str(run["k"]),
        "n": samples,
        **decoding,
        **training,
        **reranker,
        "examples": str(run["examples"]),
    }
    return {name: value for name, value in chosen.items() if name.rpartition(".")[2] != "seed"}


def _made(run: Row) -> Facts:
    """What the choices were applied to, by its hash."""
    names: Mapping[str, str] = {"data": "data", "index": "index_id", "reranker": "reranker_id", "base": "base"}
    return {label: str(run[name])[:SHORT] for label, name in names.items() if run[name]}


def _itself(run: Row) -> Facts:
    """The student, and the run at last."""
    return {"student": str(run["student_id"])[:SHORT], "run": str(run["evaluation_id"])}


def _settings(text: object) -> dict[str, str]:
    """A `settings` column as names and values, nested ones as `lora.rank`; {} without one."""
    found: dict[str, str] = {}

    def below(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for name, inner in cast("dict[str, Any]", value).items():
                below(f"{prefix}.{name}" if prefix else name, inner)
        else:
            found[prefix] = str(value)

    below("", json.loads(str(text)) if text else {})
    return found
