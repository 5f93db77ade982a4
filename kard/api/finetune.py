"""Adapters for any DSPy program: its predictors' calls become examples, and training's own loop learns them."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import dspy
import torch

from kard.api.demonstrations import Metric, PredictorCall, lessons
from kard.api.lm import StudentInfo, StudentLM, with_student
from kard.api.load import FACTS, decoding_for
from kard.config import METHODS, Decoding, Method, StudentTraining
from kard.db import now, open_store, writing
from kard.errors import BadConfig, BadInput
from kard.files import adapters_folder
from kard.models import adapters as disk
from kard.models import bases
from kard.models.bases import Base
from kard.models.lora import config_of, state_of
from kard.progress import SILENT, Progress
from kard.publish.card import Form
from kard.publish.folder import public, whole
from kard.publish.student import template
from kard.records import canonical, digest
from kard.student.generation.student import Student, resident
from kard.student.tokens import Tokens
from kard.student.training.checkpoint import Checkpoint
from kard.student.training.loss import Example
from kard.student.training.train import Trained, example, fit, prepared, set_apart
from kard.version import __version__

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
    """A copy of the program that a student answers, which was trained on what its predictors are given and say.

    One LoRA adapter over `base` (a spec as in `kard models fetch`; decoder or encoder-decoder), or with settings
    that say `full` its weights themselves, learns every predictor's calls. Without a teacher, each example is run
    through the program with its own labels as every predictor's outputs, so that inputs are what the program's code
    makes of it; a label that bears the name of a predictor's input (passages found with the rationale, say) is
    trained on in place of what the code found. With a `teacher`, an LM or a program of the same predictors, its
    calls are learnt where `metric(example, prediction, trace)` holds, all of them without a metric. `method` leaves
    passages out of prompts or rationales out of targets: ft, ka-ft, rd, kard.

    The adapter goes into the folder `out`, the `store`, or both (there under the task `name`). The same program,
    examples, base and settings train once; a killed training goes on where it was. Raises BadInput for an
    example that lacks a field, BadConfig for a setting, NoBase for a base that cannot be had or writes no text.
    """
    chosen, wanted = _method(method), settings or StudentTraining()
    if out is None and store is None:
        raise BadConfig("no place for the adapter; give out='FOLDER' or store='STORE.db'")
    found = base if isinstance(base, Base) else bases.resolve(base)
    made = lessons(program, trainset, chosen, wanted, teacher=teacher, metric=metric, num_threads=num_threads)
    data = _hash(made)
    known = digest(found.sha256, chosen.name, data, wanted.hash(), name)
    folder = _place(known, out, store)
    tokens = Tokens.load(found.folder, decoder=found.kind == "decoder")
    examples = [example(tokens, key, one.prompt, one.pieces, wanted) for key, one in enumerate(made)]
    if not (folder / disk.WEIGHTS).exists():
        forms = _forms(made, wanted)
        start = time.perf_counter()
        saved = Checkpoint(folder.with_name(f".{known}.checkpoint"))
        model, trained = _train(found, tokens, made, examples, wanted, progress, saved)
        training = {
            "data_sha256": data,
            "examples": trained.examples,
            "tokens": trained.tokens,
            "loss": trained.loss,
            "milliseconds": 1000 * (time.perf_counter() - start),
            "longest": max(len(one.target) for one in examples),
        }

        def fill(part: Path) -> None:
            sha256 = disk.write_files(part, state_of(model), config_of(model, public(found.spec)))
            told = {**_told(known, name, found, chosen, wanted, sha256, forms), "training": training}
            (part / FACTS).write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

        whole(folder, fill)
        saved.discard()
    told = _checked(folder, known)
    if store is not None:
        _record(Path(store), folder, told, found)
    identity = StudentInfo(
        known, told["adapter_sha256"], found.spec, found.sha256, chosen.name, wanted, task=name, size=_size(found)
    )
    student = Student(resident(found), folder, wanted, name=known)
    return with_student(program, StudentLM(student, decoding or decoding_for(told), identity))


def _train(
    base: Base,
    tokens: Tokens,
    made: Sequence[PredictorCall],
    examples: Sequence[Example],
    settings: StudentTraining,
    progress: Progress,
    saved: Checkpoint,
) -> tuple[Any, Trained]:
    """The model with the adapter that the lessons taught, and what training saw."""
    # Calls of one example stay together: what only measures must not stand in another predictor's lesson.
    of_example = {key: one.example for key, one in enumerate(made)}
    lists, held_out = set_apart([examples] * settings.epochs, of_example, settings)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        model, loss = prepared(base, tokens, settings)
        with progress.bar("finetune", sum(map(len, lists))) as advance:
            trained = fit(model, loss, lists, settings, advance, held_out=held_out, saved=saved)
    return model, trained


def _method(name: str) -> Method:
    trained = [one for one, method in METHODS.items() if method.trained]
    if name not in trained:
        raise BadConfig(f"method must be one of {', '.join(trained)} to be trained, not {name}")
    return METHODS[name]


def _hash(made: Sequence[PredictorCall]) -> str:
    """sha256 of every prompt and target, in order."""
    hashed = hashlib.sha256()
    for lesson in made:
        hashed.update(
            json.dumps([lesson.prompt, lesson.pieces], ensure_ascii=False).encode("utf-8", "surrogatepass")
        )
    return hashed.hexdigest()


def _forms(made: Sequence[PredictorCall], settings: StudentTraining) -> list[Form]:
    """The prompt and target of every predictor that was called."""
    return [template(one.signature, settings) for one in {lesson.predictor: lesson for lesson in made}.values()]


def _place(known: str, out: str | Path | None, store: str | Path | None) -> Path:
    """Where the adapter goes. Raises BadInput for a folder that holds something else."""
    if out is None:
        return adapters_folder(Path(cast("str | Path", store))) / known
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()):
        _checked(folder, known)
    return folder


def _checked(folder: Path, known: str) -> dict[str, Any]:
    """What the folder says of its student. Raises BadInput when it is another one, or has changed."""
    try:
        told = cast("dict[str, Any]", json.loads((folder / FACTS).read_text("utf-8")))
        there = str(told["student"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput("holds something else than this student; name another folder", at=str(folder)) from None
    if there != known:
        raise BadInput(f"holds student {there}, trained on other data or settings; name another", at=str(folder))
    if disk.hash_of(folder / disk.WEIGHTS) != told["adapter_sha256"]:
        raise BadInput("its weights are not what was trained; delete the folder and train again", at=str(folder))
    return told


def _told(
    known: str, name: str, base: Base, method: Method, settings: StudentTraining, sha256: str, forms: Sequence[Form]
) -> dict[str, Any]:
    return {
        "kard": __version__,
        "student": known,
        "task": name,
        "size": _size(base),
        "method": method.name,
        "base": public(base.spec),
        "base_sha256": base.sha256,
        "adapter_sha256": sha256,
        "merged": False,
        "settings": settings.values(),
        "prompts": [{"prompt": form.prompt, "target": form.target} for form in forms],
    }


def _record(store: Path, folder: Path, told: dict[str, Any], base: Base) -> None:
    """The student as a row of the store, its adapter among the store's; nothing when it is there already."""
    db = open_store(store)
    try:
        home = adapters_folder(store) / str(told["student"])
        if not home.exists():

            def fill(part: Path) -> None:
                for file in folder.iterdir():
                    shutil.copyfile(file, part / file.name)

            whole(home, fill)
        training = told["training"]
        with writing(db):
            db.table("students").insert(
                {
                    "id": told["student"],
                    "task": told["task"],
                    "method": told["method"],
                    "size": told["size"],
                    "base": base.spec,
                    "base_sha256": base.sha256,
                    "settings": canonical(told["settings"]),
                    "data_sha256": training["data_sha256"],
                    "seed": told["settings"]["seed"],
                    "examples": training["examples"],
                    "tokens": training["tokens"],
                    "loss": training["loss"],
                    "path": f"{home.parent.name}/{home.name}",
                    "sha256": told["adapter_sha256"],
                    "milliseconds": training["milliseconds"],
                    "created": now(),
                },
                ignore=True,
            )
    finally:
        db.close()


def _size(base: Base) -> str:
    """`135m` for 134,515,008 parameters."""
    count = base.parameters
    for unit, name in ((10**9, "b"), (10**6, "m"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return str(count)
