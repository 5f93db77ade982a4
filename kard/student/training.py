"""Training a student: LoRA on question (and passages) to rationale and answer (section 3.2)."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from sqlite_utils import Database

from kard import adapters as disk
from kard.bases import Base
from kard.config import Method, StudentTraining
from kard.db import now
from kard.errors import BadConfig
from kard.lora import adapted, state_of, trainable
from kard.machine import dtype, keep_memory
from kard.progress import SILENT, Advance, Progress
from kard.records import canonical, digest
from kard.student.losses import Example, Layers, Loss, loss_for
from kard.student.model import load_model
from kard.student.pairs import Pair, data_hash, rendered, schedule, training_pairs
from kard.student.render import signature_for
from kard.student.tokens import Tokens
from kard.tasks import Task

WARM_UP = 0.05  # share of the steps
POOL = 16  # batches that are shuffled together and sorted by length


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training run saw and reached."""

    examples: int  # distinct sequences
    tokens: int  # seen, prompt and target
    loss: float  # mean over the target tokens of the last epoch


def train_student(
    db: Database,
    task: Task,
    size: str,
    base: Base,
    method: Method,
    adapters: Path,
    settings: StudentTraining,
    *,
    index_id: str | None,
    teacher_id: str | None = None,
    limit: int | None = None,
    progress: Progress = SILENT,
) -> str:
    """The id of the student trained on what the store holds; trained now if it was not yet.

    The adapter is in place before its row is, so a killed run leaves nothing that counts. Raises Missing when
    an earlier step is, NoBase for a base that cannot write, BadConfig when the loss leaves the numbers.
    """
    signature = signature_for(task.answer, method)
    pairs = training_pairs(db, task.name, method, settings, index_id=index_id, teacher_id=teacher_id, limit=limit)
    epochs = schedule(pairs, settings)
    data = data_hash(signature, epochs, settings)
    student_id = digest(base.sha256, method.name, data, settings.hash(), task.name, size)
    if db.execute("select 1 from students where id = ?", [student_id]).fetchone():
        return student_id
    start = time.perf_counter()
    decoder = base.kind == "decoder"
    tokens = Tokens.load(base.folder, decoder=decoder)
    keyed: dict[Pair, Example] = {}
    for pair in (pair for epoch in epochs for pair in epoch):
        if pair not in keyed:
            prompt, pieces = rendered(signature, pair, settings)
            keyed[pair] = example(tokens, len(keyed), prompt, pieces, settings)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        model, loss = prepared(base, tokens, settings)
        lists = [[keyed[pair] for pair in epoch] for epoch in epochs]
        with progress.bar(f"train {method.name} {size}", sum(map(len, lists))) as advance:
            trained = fit(model, loss, lists, settings, advance)
    sha256 = disk.write(adapters / student_id, state_of(model), model.active_peft_config)
    with db.atomic():
        db.table("students").insert(
            {
                "id": student_id,
                "task": task.name,
                "method": method.name,
                "size": size,
                "base": base.spec,
                "base_sha256": base.sha256,
                "settings": canonical(settings.values()),
                "data_sha256": data,
                "seed": settings.seed,
                "examples": trained.examples,
                "tokens": trained.tokens,
                "loss": trained.loss,
                "path": f"{adapters.name}/{student_id}",
                "sha256": sha256,
                "milliseconds": 1000 * (time.perf_counter() - start),
                "created": now(),
            }
        )
    return student_id


def example(
    tokens: Tokens, key: int, prompt: str, pieces: Sequence[tuple[str, str]], settings: StudentTraining
) -> Example:
    """A prompt and its target as token ids, `settings.max_length` at most together."""
    ids = tokens.prompt(prompt, settings.max_length)
    return Example(key, ids, tokens.target(pieces, settings.max_length - len(ids)))


def prepared(base: Base, tokens: Tokens, settings: StudentTraining) -> tuple[torch.nn.Module, Loss]:
    """A fresh model with an adapter, ready to train, and its loss.

    With `upper_half` a decoder of known build gets adapters in the upper half of its layers only, and the
    lower half runs once an example: 1.9 times as fast at nearly the same accuracy.
    """
    keep_memory()
    model = load_model(base, dtype())
    decoder = base.kind == "decoder"
    layers = getattr(getattr(model, "model", None), "layers", ()) if decoder else ()
    start = len(layers) // 2 if settings.upper_half else 0
    loss = loss_for(model, start, tokens.pad, decoder=decoder)
    known = isinstance(loss, Layers)
    made = adapted(
        model, settings.lora, spec=base.spec, layers=range(start, len(layers)) if known else None, decoder=decoder
    )
    return made.train(), loss


def fit(
    model: torch.nn.Module,
    loss: Loss,
    epochs: Sequence[Sequence[Example]],
    settings: StudentTraining,
    advance: Advance,
) -> Trained:
    """Train the adapter in place. Each step is the mean over its target tokens; `advance` counts examples."""
    order = random.Random(settings.seed)
    plan = [batches(examples, settings.batch, order) for examples in epochs]
    steps = sum(map(len, plan))
    weights = trainable(model)
    optimizer = torch.optim.AdamW(weights, lr=settings.peak_lr, weight_decay=0.0)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    total, count = 0.0, 0
    for epoch in plan:
        total, count = 0.0, 0
        for batch in epoch:
            summed = loss(batch)
            targets = sum(len(e.target) for e in batch)
            (summed / targets).backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            rates.step()
            optimizer.zero_grad()
            total, count = total + summed.item(), count + targets
            if not math.isfinite(total):
                raise BadConfig(f"the loss is no number any more; lower peak_lr from {settings.peak_lr}")
            advance(len(batch))
    seen = [e for examples in epochs for e in examples]
    return Trained(len({e.key for e in seen}), sum(map(len, seen)), total / max(count, 1))


def rate(step: int, steps: int) -> float:
    """The learning rate of a step as a share of its peak: linear up over 5% of the steps, then linear to 0."""
    up = max(1, round(WARM_UP * steps))
    return (step + 1) / up if step < up else (steps - step) / (steps - up + 1)


def batches(examples: Sequence[Example], size: int, order: random.Random) -> list[list[Example]]:
    """The examples in a random order, in batches of like length: little of a batch is padding."""
    shuffled = list(examples)
    order.shuffle(shuffled)
    made: list[list[Example]] = []
    for start in range(0, len(shuffled), size * POOL):
        pool = sorted(shuffled[start : start + size * POOL], key=len)
        made += [pool[i : i + size] for i in range(0, len(pool), size)]
    order.shuffle(made)
    return made
