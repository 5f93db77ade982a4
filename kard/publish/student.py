"""Adapters as folders for others: what peft, transformers and the model hub read, with a model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_origin

import dspy

from kard import tasks
from kard.api.lm import reduced
from kard.api.load import FACTS, find, identity_of
from kard.config import METHODS, Method, StudentTraining
from kard.db import rows
from kard.errors import BadConfig, BadInput, NoTask
from kard.metrics.intervals import wilson
from kard.models.adapters import CONFIG, AdapterSwitcher, checked, is_whole
from kard.models.hardware import load_model
from kard.models.weights import measure
from kard.publish.card import PAPER, Card, Form, Result, made_with, markdown
from kard.publish.folder import copy_adapter, hub_id, public, same_base, save_model, whole, write_text
from kard.student.prompt import render_prompt, render_target
from kard.tasks import Task
from kard.version import __version__

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.models.bases import Base


def export_student(
    db: Database, student: str, adapters: Path, folder: Path, *, merge: bool = False, task: Task | None = None
) -> Path:
    """Write the student as a peft adapter folder, or merged into its base, with a model card; the folder.

    `student` is an id or the beginning of one. `task` is needed for the prompts when the student's task is not one
    that comes with kard. No path of this machine is written. The folder appears when it is whole. Raises BadInput
    when it is there and not empty, BadConfig when weights themselves were trained and it is not merged, Missing
    when the student is not there, NoBase when its base cannot be had, NoTask.
    """
    row = find(db, student, task=None, size=None, method=None)
    known = identity_of(row)
    if not row["path"]:
        raise BadInput(f"student {known.id} is a base that is only prompted; there is no adapter to export")
    source = checked(adapters / Path(str(row["path"])).name, known.sha256, known.task)
    config = cast("dict[str, Any]", json.loads((source / CONFIG).read_text("utf-8")))
    trained_whole = is_whole(source)
    if trained_whole and not merge:
        raise BadConfig(f"weights of student {known.id} were trained themselves; export it whole with: --merge")
    prompts = _forms(source, known.task, METHODS[known.method], known.settings, task)
    base = same_base(known.base, known.base_sha256, f"student {known.id}")
    settings = cast("dict[str, Any]", json.loads(str(row["settings"])))  # as kept: later versions know more
    said = {name: value for name, value in settings.items() if name != "lora" or not trained_whole}
    seen = f"{row['examples']} examples, {row['tokens']} tokens seen; last loss a token {float(row['loss']):.3f}"
    facts = {
        "student": known.id,
        "task": known.task,
        "method": known.method,
        "size": known.size,
        "base": public(known.base),
        "base weights": known.base_sha256,
        "trained": "the model's own weights" if trained_whole else "a low-rank adapter",
        "trained weights": known.sha256,
        "training data": row["data_sha256"],
        "trained on": seen,
        "seed": known.settings.seed,
        "made with": made_with(config),
    }
    card = Card(
        title=f"{known.task} student, {known.size}, {known.method}",
        about=(
            f"A language model for {known.task}: {_says(METHODS[known.method])}. It was trained "
            f"with kard ({PAPER})."
        ),
        kind=base.kind,
        merged=merge,
        base=public(known.base),
        base_id=hub_id(known.base),
        task=known.task,
        facts=facts,
        settings=said,
        results=[
            Result(
                str(one["split"]),
                _condition(one),
                "accuracy",
                wilson(int(str(one["correct"])), int(str(one["questions"]))),
            )
            for one in rows(db, "internal/student_results", student=known.id)
        ],
        forms=prompts,
        rank=int(config.get("r", 0)),
        dora=bool(config.get("use_dora")),
    )
    told = {
        "kard": __version__,
        "student": known.id,
        "task": known.task,
        "size": known.size,
        "method": known.method,
        "base": public(known.base),
        "base_sha256": known.base_sha256,
        "adapter_sha256": known.sha256,
        "merged": merge,
        "settings": settings,
        "prompts": [{"prompt": form.prompt, "target": form.target} for form in prompts],
    }

    if (source / FACTS).exists():
        told["longest"] = json.loads((source / FACTS).read_text("utf-8"))["training"]["longest"]

    def fill(part: Path) -> None:
        if merge:
            told["weights_sha256"] = _merge(part, base, source)
        else:
            copy_adapter(part, source, known.base)
        write_text(part / FACTS, json.dumps(told, ensure_ascii=False, indent=1) + "\n")
        write_text(part / "README.md", markdown(card))

    return whole(folder, fill)


def template(signature: type[dspy.Signature], settings: StudentTraining) -> Form:
    """The prompt and target of a signature, rendered with its fields' names in braces."""
    given: dict[str, object] = {}
    for name, field in signature.input_fields.items():
        if get_origin(field.annotation) is not list:
            given[name] = f"{{{name}}}"
        elif name == "options":
            given[name] = ["{first option}", "{second option}"]
        else:
            given[name] = [f"{{title}}: {{text of passage {i + 1}}}" for i in range(settings.k)]
    answer = "{letter}" if settings.answer == "letter" else "{answer}"
    written = {name: answer if name == "answer" else f"{{{name}}}" for name in signature.output_fields}
    return Form(render_prompt(signature, given), render_target(signature, written))


def _forms(source: Path, name: str, method: Method, settings: StudentTraining, task: Task | None) -> list[Form]:
    """What the adapter's folder says, else the task's one form. Raises NoTask."""
    if (source / FACTS).exists():
        kept = json.loads((source / FACTS).read_text("utf-8"))["prompts"]
        return [Form(str(one["prompt"]), str(one["target"])) for one in kept]
    if task is None:
        try:
            task = tasks.load(name)
        except NoTask as error:
            raise NoTask(
                f"{error}: the student's prompts are written there; name its file with: --task FILE.py"
            ) from error
    return [template(reduced(task.answer, method), settings)]


def _merge(part: Path, base: Base, source: Path) -> str:
    """The base with what was trained in its weights; the weights' hash.

    In the precision that the base is kept in, or float32 where weights themselves were trained in that.
    """
    import torch

    kept = json.loads((base.folder / "config.json").read_text("utf-8"))
    precision = getattr(torch, str(kept.get("dtype") or kept.get("torch_dtype")), torch.float32)
    model = load_model(base, torch.float32 if is_whole(source) else precision)
    AdapterSwitcher(model).activate(source)
    save_model(part, model, base)
    return measure(part)[0]


def _says(method: Method) -> str:
    read = "from the passages that it is given" if method.reads else "without reading anything"
    return f"it reasons {read}, then answers" if method.reasons else f"it answers {read}, without a rationale"


def _condition(row: Mapping[str, object]) -> str:
    decoding = json.loads(str(row["decoding"]))
    samples = int(decoding.get("samples", 1))
    drawn = "greedy" if samples == 1 else f"vote of {samples}"
    read = "no passages" if row["retriever"] == "none" else f"{row['retriever']}, first {row['k']}"
    return f"{read}, {drawn}"
