"""A reranker's adapter as a folder for others, or merged into its encoder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kard.errors import BadConfig, Missing
from kard.metrics.intervals import wilson
from kard.models.adapters import CONFIG, WEIGHTS, AdapterSwitcher, hash_of, is_whole
from kard.publish.card import PAPER, Card, Result, made_with, markdown
from kard.publish.folder import copy_adapter, hub_id, public, same_base, save_model, whole, write_text

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.models.bases import Base


ALONE = " It reads questions only: encode passages with its base as it is."


def _asks(settings: Mapping[str, Any]) -> bool:
    """Whether only the encoder of questions learned."""
    return settings.get("side") == "question"


def rerankers_like(db: Database, reranker: str) -> list[str]:
    """Ids of rerankers that begin so."""
    found = db.execute("select id from rerankers where id like ? || '%' order by id", [reranker])
    return [str(row[0]) for row in found]


def export_reranker(db: Database, reranker: str, adapters: Path, folder: Path, *, merge: bool = False) -> Path:
    """Write the reranker as a peft adapter folder, or merged into its encoder, with a model card; the folder.

    No path of this machine is written. The folder appears when it is whole. Raises BadInput when it is there and
    not empty, Missing when the reranker is not, NoBase when its base cannot be had, BadConfig for one that neither
    peft nor transformers alone can load.
    """
    row = next(iter(db.query("select * from rerankers where id = ?", [reranker])), None)
    if row is None:
        raise Missing(f"no reranker {reranker} in the store; see them with: kard models")
    source = adapters / Path(str(row["path"])).name
    if not (source / WEIGHTS).is_file() or hash_of(source / WEIGHTS) != row["sha256"]:
        again = f"train it again with: kard train reranker {row['task']}"
        raise Missing(f"{source / WEIGHTS} is not what was trained as {reranker}; {again}")
    settings = cast("dict[str, Any]", json.loads(str(row["settings"])))
    config = cast("dict[str, Any]", json.loads((source / CONFIG).read_text("utf-8")))
    base = same_base(str(row["base"]), str(row["base_sha256"]), f"reranker {reranker}")
    _exportable(reranker, settings, source, base, merge=merge)
    spec = str(row["base"])
    card = Card(
        title=f"{row['task']} reranker, {settings['scorer']}",
        about=(
            f"An encoder that ranks passages for the questions of {row['task']} as BM25 ranks them for a teacher's "
            f"rationale. It was trained with kard ({PAPER}, section 3.3)."
            f"{ALONE if _asks(settings) else ''}"
        ),
        kind="encoder",
        merged=merge,
        base=public(spec),
        base_id=hub_id(spec),
        task=str(row["task"]),
        facts={
            "reranker": reranker,
            "task": row["task"],
            "scorer": settings["scorer"],
            "base": public(spec),
            "base weights": row["base_sha256"],
            "adapter weights": row["sha256"],
            "training data": row["data_sha256"],
            "trained on": f"{row['questions']} questions",
            "seed": settings.get("seed", 0),
            "longest passage": f"{settings['max_length']} tokens",
            "passages are encoded by": "the base as it is" if _asks(settings) else "this model",
            "made with": made_with(config),
        },
        settings=settings,
        results=_results(cast("Mapping[str, Any]", json.loads(str(row["metrics"])))),
    )

    def fill(part: Path) -> None:
        if merge:
            from transformers import AutoModel

            model: Any = AutoModel.from_pretrained(base.folder)
            AdapterSwitcher(model).activate(source)
            save_model(part, model, base)
        else:
            copy_adapter(part, source, spec)
        write_text(part / "README.md", markdown(card))

    return whole(folder, fill)


def _exportable(reranker: str, settings: Mapping[str, Any], source: Path, base: Base, *, merge: bool) -> None:
    if settings["scorer"] == "cross" or settings.get("projection"):
        raise BadConfig(f"reranker {reranker} has a head of its own, which only kard loads; export one without")
    if is_whole(source) and not merge:
        raise BadConfig(f"all weights of reranker {reranker} were trained; export it whole with: --merge")
    if merge and base.kind != "encoder":
        raise BadConfig(f"{base.spec} is no plain encoder to merge into; leave out --merge")


def _results(metrics: Mapping[str, Any]) -> list[Result]:
    """Hits@k on the held-out questions, before and after training and by BM25, as far as they were kept."""
    questions = int(metrics.get("held_out") or 0)
    if not questions:
        return []
    names = {"hits_after": "this reranker", "hits_before": "its untrained encoder", "hits_bm25": "BM25"}
    made: list[Result] = []
    for key, who in names.items():
        kept = cast("dict[str, float]", metrics.get(key) or {})
        for k in sorted(kept, key=int):
            share = wilson(round(float(kept[k]) * questions), questions)
            made.append(Result("held-out training questions", who, f"hits@{k}", share, key == "hits_after"))
    return made
