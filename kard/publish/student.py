"""A student as a folder for others: its adapter, or its base with the trained weights merged in, and a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_origin

import dspy

from kard import tasks
from kard.config import StudentTraining
from kard.db import rows
from kard.errors import BadConfig, BadInput, NoTask
from kard.methods import METHODS, Method
from kard.metrics.intervals import wilson
from kard.models.adapters import is_whole, verified
from kard.models.hardware import load_model
from kard.models.weights import measure
from kard.publish.card import PAPER, Card, PromptTemplate, Result, made_with
from kard.publish.folder import (
    copy_adapter,
    hub_id,
    public_name,
    read_config,
    read_facts,
    resolve_same_base,
    write_card,
    write_facts,
    write_folder,
    write_merged,
)
from kard.student.prompt import render_prompt, render_target, signature_for
from kard.student.records import StudentInfo, find_student
from kard.tasks import Task
from kard.version import __version__

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.models.bases import Base


def export_student(
    db: Database, student: str, adapters: Path, folder: Path, *, merge: bool = False, task: Task | None = None
) -> Path:
    """Write a student to `folder` as a peft adapter, or merged into its base, with a model card. Return the folder.

    `student` is an id or the beginning of one. `task` is needed for the prompts if the student's task does not come
    with kard. The folder appears when it is complete, and names no path of this machine. Raises BadInput if it
    exists and is not empty, BadConfig if weights themselves were trained and `merge` is false, Missing if there is
    no such student, NoBase if its base cannot be had, NoTask if its task is unknown.
    """
    row = find_student(db, student)
    info = StudentInfo.of(row)
    method = METHODS[info.method]
    if not row["path"]:
        raise BadInput(f"student {info.id} is a base that is only prompted; there is no adapter to export")
    source = verified(adapters / Path(row["path"]).name, info.sha256, info.task)
    config = read_config(source)
    trained_whole = is_whole(source)
    if trained_whole and not merge:
        raise BadConfig(f"weights of student {info.id} were trained themselves; export it whole with: --merge")
    prompts = _prompts(source, info, task)
    base = resolve_same_base(info.base, info.base_sha256, f"student {info.id}")
    settings = cast("dict[str, Any]", json.loads(row["settings"]))  # as stored: later versions have more of them
    results = [
        Result(
            row["split"],
            _condition(row),
            "accuracy" if row["f1"] is None else "exact_match",
            wilson(row["correct"], row["questions"]),
        )
        for row in rows(db, "internal/student_results", student=info.id)
    ]
    card = Card(
        title=f"{info.task} student, {info.size}, {info.method}",
        about=f"A language model for {info.task}: {_behaviour(method)}. It was trained with kard ({PAPER}).",
        kind=base.kind,
        merged=merge,
        base=public_name(info.base),
        base_id=hub_id(info.base),
        task=info.task,
        facts={
            "student": info.id,
            "task": info.task,
            "method": info.method,
            "size": info.size,
            "base": public_name(info.base),
            "base weights": info.base_sha256,
            "trained": "the model's own weights" if trained_whole else "a low-rank adapter",
            "trained weights": info.sha256,
            "training data": row["data_sha256"],
            "trained on": (
                f"{row['examples']} examples, {row['tokens']} tokens seen; last loss a token {row['loss']:.3f}"
            ),
            "seed": info.settings.seed,
            "made with": made_with(config),
        },
        settings={name: value for name, value in settings.items() if name != "lora" or not trained_whole},
        results=results,
        prompts=prompts,
        rank=int(config.get("r", 0)),
        dora=bool(config.get("use_dora")),
    )
    facts = student_facts(info, settings, prompts, merged=merge)
    facts["longest"] = row["target_tokens"]

    def fill(part: Path) -> None:
        if merge:
            write_merged(part, _float_model(base, source), base, source)
            facts["weights_sha256"] = measure(part)[0]
        else:
            copy_adapter(part, source, info.base)
        write_facts(part, facts)
        write_card(part, card)

    return write_folder(folder, fill)


def student_facts(
    info: StudentInfo, settings: Mapping[str, Any], prompts: list[PromptTemplate], *, merged: bool
) -> dict[str, Any]:
    """Return the content of a folder's kard.json: which student it holds."""
    return {
        "kard": __version__,
        "student": info.id,
        "task": info.task,
        "size": info.size,
        "method": info.method,
        "base": public_name(info.base),
        "base_sha256": info.base_sha256,
        "adapter_sha256": info.sha256,
        "merged": merged,
        "settings": settings,
        "prompts": [asdict(template) for template in prompts],
    }


def prompt_template(signature: type[dspy.Signature], settings: StudentTraining) -> PromptTemplate:
    """Return the prompt and target of a signature, rendered with its fields' names in braces."""
    inputs: dict[str, object] = {}
    for name, field in signature.input_fields.items():
        if get_origin(field.annotation) is not list:
            inputs[name] = f"{{{name}}}"
        elif name == "options":
            inputs[name] = ["{first option}", "{second option}"]
        else:
            inputs[name] = [f"{{title}}: {{text of passage {i + 1}}}" for i in range(max(settings.k, 1))]
    answer = "{letter}" if settings.answer == "letter" else "{answer}"
    outputs = {name: answer if name == "answer" else f"{{{name}}}" for name in signature.output_fields}
    return PromptTemplate(render_prompt(signature, inputs), render_target(signature, outputs))


def _prompts(source: Path, info: StudentInfo, task: Task | None) -> list[PromptTemplate]:
    """Return the prompts that the adapter's folder names, else the one of the task. Raises NoTask."""
    if stored := read_facts(source):
        return [PromptTemplate(**template) for template in stored["prompts"]]
    try:
        task = task or tasks.load(info.task)
    except NoTask as error:
        raise NoTask(
            f"{error}: the student's prompts are written there; name its file with: --task FILE.py"
        ) from error
    return [prompt_template(signature_for(task.answer, METHODS[info.method]), info.settings)]


def _float_model(base: Base, source: Path) -> Any:
    """Return the base in its own precision, or in float32 if its weights themselves were trained in that."""
    import torch

    config = json.loads((base.folder / "config.json").read_text("utf-8"))
    precision = getattr(torch, str(config.get("dtype") or config.get("torch_dtype")), torch.float32)
    return load_model(base, torch.float32 if is_whole(source) else precision)


def _behaviour(method: Method) -> str:
    reading = "from the passages that it is given" if method.reads else "without reading anything"
    return f"it reasons {reading}, then answers" if method.reasons else f"it answers {reading}, without a rationale"


def _condition(row: Mapping[str, Any]) -> str:
    stored = json.loads(row["decoding"])
    samples, decide = stored.get("samples", 1), stored.get("decide", "written")
    decoding = "greedy" if samples == 1 else f"vote of {samples}"
    if decide != "written":
        decoding += f", by {decide}"
    if "engine" in stored:
        decoding += ", by a server"
    reading = "no passages" if row["retriever"] == "none" else f"{row['retriever']}, first {row['k']}"
    f1 = "" if row["f1"] is None else f", F1 {row['f1']:.3f}"
    return f"{reading}, {decoding}{f1}"
