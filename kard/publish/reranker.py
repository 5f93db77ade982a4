"""A reranker as a folder for others: its adapter, or its encoder with the adapter merged in, and a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kard.errors import BadConfig, Missing
from kard.metrics.intervals import wilson
from kard.models.adapters import WEIGHTS, changed_file, is_whole
from kard.models.weights import measure
from kard.publish.card import PAPER, Card, Result, made_with
from kard.publish.folder import (
    copy_adapter,
    hub_id,
    public_name,
    read_config,
    resolve_same_base,
    write_card,
    write_facts,
    write_folder,
    write_merged,
)
from kard.version import __version__

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.models.bases import Base


def rerankers_like(db: Database, reranker: str) -> list[str]:
    """Return the ids of rerankers that begin with `reranker`."""
    return [row[0] for row in db.execute("select id from rerankers where id like ? || '%' order by id", [reranker])]


def export_reranker(db: Database, reranker: str, adapters: Path, folder: Path, *, merge: bool = False) -> Path:
    """Write a reranker to `folder` as a peft adapter, or merged into its encoder, with a model card.

    Returns the folder. It appears when it is complete, and names no path of this machine. Raises BadInput if it
    exists and is not empty, Missing if there is no such reranker, NoBase if its base cannot be had, BadConfig if
    neither peft nor transformers alone could load it.
    """
    row = next(iter(db.query("select * from rerankers where id = ?", [reranker])), None)
    if row is None:
        raise Missing(f"no reranker {reranker} in the store; see them with: kard models")
    source = adapters / Path(row["path"]).name
    if not (source / WEIGHTS).is_file() or changed_file(source, row["sha256"]):
        again = f"train it again with: kard train reranker {row['task']}"
        raise Missing(f"{source / WEIGHTS} is not what was trained as {reranker}; {again}")
    settings = cast("dict[str, Any]", json.loads(row["settings"]))
    spec = row["base"]
    base = resolve_same_base(spec, row["base_sha256"], f"reranker {reranker}")
    _check_exportable(reranker, settings, source, base, merge=merge)
    questions_only = settings.get("side") == "question"  # only the encoder of questions was trained
    card = Card(
        title=f"{row['task']} reranker, {settings['scorer']}",
        about=(
            f"An encoder that ranks passages for the questions of {row['task']} as BM25 ranks them for a teacher's "
            f"rationale. It was trained with kard ({PAPER}, section 3.3)."
            + (" It reads questions only: encode passages with its base as it is." if questions_only else "")
        ),
        kind="encoder",
        merged=merge,
        base=public_name(spec),
        base_id=hub_id(spec),
        task=row["task"],
        facts={
            "reranker": reranker,
            "task": row["task"],
            "scorer": settings["scorer"],
            "base": public_name(spec),
            "base weights": row["base_sha256"],
            "adapter weights": row["sha256"],
            "training data": row["data_sha256"],
            "trained on": f"{row['questions']} questions",
            "seed": settings.get("seed", 0),
            "longest passage": f"{settings['max_length']} tokens",
            "passages are encoded by": "the base as it is" if questions_only else "this model",
            "made with": made_with(read_config(source)),
        },
        settings=settings,
        results=_results(json.loads(row["metrics"])),
    )

    facts: dict[str, Any] = {
        "kard": __version__,
        "reranker": reranker,
        "task": row["task"],
        "base": public_name(spec),
        "base_sha256": row["base_sha256"],
        "adapter_sha256": row["sha256"],
        "merged": merge,
        "settings": settings,
    }

    def fill(part: Path) -> None:
        if merge:
            from transformers import AutoModel

            write_merged(part, AutoModel.from_pretrained(base.folder), base, source)
            facts["weights_sha256"] = measure(part)[0]
        else:
            copy_adapter(part, source, spec)
        write_facts(part, facts)
        write_card(part, card)

    return write_folder(folder, fill)


def _check_exportable(reranker: str, settings: Mapping[str, Any], source: Path, base: Base, *, merge: bool) -> None:
    if settings["scorer"] == "cross" or settings.get("projection"):
        raise BadConfig(f"reranker {reranker} has a head of its own, which only kard loads; export one without")
    if is_whole(source) and not merge:
        raise BadConfig(f"all weights of reranker {reranker} were trained; export it whole with: --merge")
    if merge and base.kind != "encoder":
        raise BadConfig(f"{base.spec} is no plain encoder to merge into; leave out --merge")


def _results(metrics: Mapping[str, Any]) -> list[Result]:
    """Return Hits@k on the held-out questions, of the reranker, its untrained encoder and BM25 where stored."""
    questions = int(metrics.get("held_out") or 0)
    if not questions:
        return []
    conditions = {"hits_after": "this reranker", "hits_before": "its untrained encoder", "hits_bm25": "BM25"}
    results: list[Result] = []
    for key, condition in conditions.items():
        hits = cast("dict[str, float]", metrics.get(key) or {})
        for k in sorted(hits, key=int):
            share = wilson(round(float(hits[k]) * questions), questions)
            own = key == "hits_after"
            results.append(Result("held-out training questions", condition, f"hits@{k}", share, own))
    return results
