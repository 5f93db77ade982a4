"""Train a student for any DSPy program: the calls of its predictors are the examples."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import dspy
import torch

from kard.api.demonstrations import Metric, PredictorCall, predictor_calls
from kard.api.lm import StudentLM, with_student
from kard.api.load import longest_target
from kard.config import Decoding, StudentTraining
from kard.db import open_store
from kard.errors import BadConfig, BadInput
from kard.files import adapters_folder
from kard.methods import METHODS, Method
from kard.models import bases
from kard.models.adapters import WEIGHTS, changed_file, write_adapter_files
from kard.models.bases import Base
from kard.models.lora import config_of, state_of
from kard.progress import SILENT, Progress
from kard.publish.folder import FACTS, public_name, write_facts, write_folder
from kard.publish.student import prompt_template, student_facts
from kard.records import canonical, digest
from kard.student.examples import hash_texts
from kard.student.generation.student import Student, loaded_base
from kard.student.records import StudentInfo, StudentRow, store_student
from kard.student.tokens import Tokens
from kard.student.training.checkpoint import Checkpoint
from kard.student.training.loss import Example
from kard.student.training.train import Trained, fit, hold_out, prepare_model, tokenize_example

Program = TypeVar("Program", bound=dspy.Module)


def finetune(
    program: Program,
    trainset: Sequence[dspy.Example],
    *,
    base: str | Base,
    method: str = "kard",
    settings: StudentTraining | None = None,
    out: str | Path | None = None,
    store: str | Path | None = None,
    name: str = "program",
    teacher: dspy.LM | dspy.Module | None = None,
    metric: Metric | None = None,
    num_threads: int = 8,
    decoding: Decoding | None = None,
    progress: Progress = SILENT,
) -> Program:
    """Return a copy of the program that a student answers, after the student was trained on its predictors' calls.

    One LoRA adapter over `base` (a spec as in `kard models fetch`; decoder or encoder-decoder) learns the calls of
    all predictors; with `full` in the settings, the base's weights themselves do. Without a `teacher`, each example
    runs through the program's own code, and every predictor answers with the example's labels. A label with the
    name of a predictor's input (passages that were found with the rationale, say) is trained on instead of what the
    code computed. With a `teacher`, an LM or a program of the same predictors, its calls are learnt for which
    `metric(example, prediction, trace)` holds; without a metric, all of them. `method` (ft, ka-ft, rd, kard) leaves
    passages out of prompts or rationales out of targets.

    The adapter goes into the folder `out`, into the `store` (under the task `name`), or both. The same program,
    examples, base and settings train once; a training that was killed continues. Raises BadInput for an example
    that lacks a field, BadConfig for a setting, NoBase for a base that cannot be had or writes no text.
    """
    trained_method, settings = _method(method), settings or StudentTraining()
    if out is None and store is None:
        raise BadConfig("no place for the adapter; give out='FOLDER' or store='STORE.db'")
    base = base if isinstance(base, Base) else bases.resolve(base)
    calls = predictor_calls(
        program, trainset, trained_method, settings, teacher=teacher, metric=metric, num_threads=num_threads
    )
    data_sha256 = hash_texts([call.prompt, call.pieces] for call in calls)
    student_id = digest(base.sha256, trained_method.name, data_sha256, settings.hash(), name)
    info = StudentInfo(
        student_id, "", base.spec, base.sha256, trained_method.name, settings, task=name, size=_size(base)
    )
    folder = _folder(student_id, out, store)
    if not (folder / WEIGHTS).exists():
        _train_into(folder, info, base, calls, data_sha256, progress)
    facts = _check_folder(folder, student_id)
    info = replace(info, sha256=facts["adapter_sha256"])
    if store is not None:
        _store(Path(store), folder, info, facts)
    student = Student(loaded_base(base), folder, settings, name=student_id, target_tokens=longest_target(facts))
    return with_student(program, StudentLM(student, decoding or Decoding(), info))


def _train_into(
    folder: Path,
    info: StudentInfo,
    base: Base,
    calls: Sequence[PredictorCall],
    data_sha256: str,
    progress: Progress,
) -> None:
    """Train the student on the calls and write its folder."""
    start = time.perf_counter()
    checkpoint = Checkpoint(folder.with_name(f".{info.id}.checkpoint"))
    tokens = Tokens.load(base.folder, decoder=base.kind == "decoder")
    examples = [
        tokenize_example(tokens, key, call.prompt, call.pieces, info.settings) for key, call in enumerate(calls)
    ]
    model, trained = _train(base, tokens, calls, examples, info.settings, progress, checkpoint)
    training = {
        "data_sha256": data_sha256,
        "examples": trained.examples,
        "tokens": trained.tokens,
        "loss": trained.loss,
        "milliseconds": 1000 * (time.perf_counter() - start),
        "longest": max(len(example.target) for example in examples),
        "cut": sum(example.cut for example in examples) / len(examples),
    }
    signatures = {call.predictor: call.signature for call in calls}
    prompts = [prompt_template(signature, info.settings) for signature in signatures.values()]

    def fill(part: Path) -> None:
        sha256 = write_adapter_files(part, state_of(model), config_of(model, public_name(base.spec)))
        facts = student_facts(replace(info, sha256=sha256), info.settings.values(), prompts, merged=False)
        write_facts(part, {**facts, "training": training})

    write_folder(folder, fill)
    checkpoint.discard()


def _train(
    base: Base,
    tokens: Tokens,
    calls: Sequence[PredictorCall],
    examples: Sequence[Example],
    settings: StudentTraining,
    progress: Progress,
    checkpoint: Checkpoint,
) -> tuple[Any, Trained]:
    """Return the trained model, and what the training saw."""
    # Calls of one example stay together: a held-out example must not be seen through another predictor's call.
    example_of_call = {key: call.example for key, call in enumerate(calls)}
    lists, held_out = hold_out([examples] * settings.epochs, example_of_call, settings)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        model, loss = prepare_model(base, tokens, settings)
        if words := checkpoint.resumed(len(lists)):
            progress.note(words)
        with progress.bar("finetune", sum(map(len, lists))) as advance:
            trained = fit(model, loss, lists, settings, advance, held_out=held_out, checkpoint=checkpoint)
    return model, trained


def _method(name: str) -> Method:
    trained = [method.name for method in METHODS.values() if method.trained]
    if name not in trained:
        raise BadConfig(f"method must be one of {', '.join(trained)} to be trained, not {name}")
    return METHODS[name]


def _folder(student_id: str, out: str | Path | None, store: str | Path | None) -> Path:
    """Return the folder of the adapter. Raises BadInput for a folder that holds something else."""
    if out is None:
        return adapters_folder(Path(cast("str | Path", store))) / student_id
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()):
        _check_folder(folder, student_id)
    return folder


def _check_folder(folder: Path, student_id: str) -> dict[str, Any]:
    """Return what the folder says of its student. Raises BadInput if it is another one, or has changed."""
    try:
        facts = cast("dict[str, Any]", json.loads((folder / FACTS).read_text("utf-8")))
        held = str(facts["student"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput("holds something else than this student; name another folder", at=str(folder)) from None
    if held != student_id:
        raise BadInput(f"holds student {held}, trained on other data or settings; name another", at=str(folder))
    if changed_file(folder, facts["adapter_sha256"]):
        raise BadInput("its adapter is not what was trained; delete the folder and train again", at=str(folder))
    return facts


def _store(store: Path, folder: Path, info: StudentInfo, facts: dict[str, Any]) -> None:
    """Add the student to the store, and its adapter to the store's adapters, unless they are there."""
    db = open_store(store)
    try:
        home = adapters_folder(store) / info.id
        if not home.exists():

            def fill(part: Path) -> None:
                for file in folder.iterdir():
                    shutil.copyfile(file, part / file.name)

            write_folder(home, fill)
        training = facts["training"]
        row = StudentRow(
            id=info.id,
            task=info.task,
            method=info.method,
            size=info.size,
            base=info.base,
            base_sha256=info.base_sha256,
            settings=canonical(facts["settings"]),
            data_sha256=training["data_sha256"],
            seed=info.settings.seed,
            examples=training["examples"],
            tokens=training["tokens"],
            loss=training["loss"],
            path=f"{home.parent.name}/{home.name}",
            sha256=info.sha256,
            milliseconds=training["milliseconds"],
            cut=training["cut"],
            target_tokens=training["longest"],
        )
        store_student(db, row)
    finally:
        db.close()


def _size(base: Base) -> str:
    """Return the base's size as a short name: `135m` for 134,515,008 parameters."""
    count = base.parameters
    for unit, name in ((10**9, "b"), (10**6, "m"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return str(count)
