"""Training a student, from question (and passages) to rationale and answer (section 3.2)."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from sqlite_utils import Database

from kard.config import Method, StudentTraining
from kard.db import now, writing
from kard.errors import BadConfig
from kard.models import adapters as disk
from kard.models.bases import Base
from kard.models.distributed import Devices
from kard.models.hardware import keep_memory
from kard.models.load import load_in
from kard.models.lora import adapted, config_of, state_of, thawed, trainable
from kard.progress import SILENT, Advance, Progress
from kard.records import canonical, digest
from kard.student.examples import Pair, data_hash, rendered, schedule, training_pairs
from kard.student.prompt import signature_for
from kard.student.tokens import Tokens
from kard.student.training.checkpoint import Checkpoint, CheckpointPosition
from kard.student.training.loss import Example, Layers, Loss, loss_for
from kard.student.training.step import Stepper, scaler_for
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
    devices = Devices()
    tokens = Tokens.load(base.folder, decoder=base.kind == "decoder")
    keyed: dict[Pair, Example] = {}
    for pair in (pair for epoch in epochs for pair in epoch):
        if pair not in keyed:
            prompt, pieces = rendered(signature, pair, settings)
            keyed[pair] = example(tokens, len(keyed), prompt, pieces, settings)
    lists = [[keyed[pair] for pair in epoch] for epoch in epochs]
    lists, held_out = set_apart(lists, {keyed[p].key: p.question_id for p in keyed}, settings)
    saved = Checkpoint(adapters / f".{student_id}.checkpoint")
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        model, loss = prepared(base, tokens, settings)
        with progress.bar(f"train {method.name} {size}", sum(map(len, lists))) as advance:
            trained = fit(model, loss, lists, settings, advance, held_out=held_out, devices=devices, saved=saved)
    if not devices.leads:
        devices.wait()
        return student_id
    sha256 = disk.write(adapters / student_id, state_of(model), config_of(model, base.spec))
    with writing(db):
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
    saved.discard()
    devices.wait()
    return student_id


def set_apart(
    lists: Sequence[Sequence[Example]], questions: Mapping[int, int], settings: StudentTraining
) -> tuple[list[list[Example]], list[Example]]:
    """The examples to train on, by epoch, and those of the questions that only measure (`settings.held_out`)."""
    every = sorted(set(questions.values()))
    random.Random(settings.seed).shuffle(every)
    apart = set(every[: round(settings.held_out * len(every))])
    measured = {e.key: e for examples in lists for e in examples if questions[e.key] in apart}
    return [[e for e in examples if e.key not in measured] for examples in lists], list(measured.values())


def example(
    tokens: Tokens, key: int, prompt: str, pieces: Sequence[tuple[str, str]], settings: StudentTraining
) -> Example:
    """A prompt and its target as token ids, `settings.max_length` at most together."""
    ids = tokens.prompt(prompt, settings.max_length)
    return Example(key, ids, tokens.target(pieces, settings.max_length - len(ids)))


def prepared(base: Base, tokens: Tokens, settings: StudentTraining) -> tuple[torch.nn.Module, Loss]:
    """A fresh model with an adapter, or with trainable weights of its own, and its loss.

    With `upper_half` a decoder of known build is trained in the upper half of its layers only, and the
    lower half runs once an example: 1.9 times as fast at nearly the same accuracy.
    """
    keep_memory()
    decoder = base.kind == "decoder"
    # Steps on weights themselves are lost in bfloat16's seven bits.
    model = load_in(base, "float32" if settings.full else settings.precision)
    layers = getattr(getattr(model, "model", None), "layers", ()) if decoder else ()
    start = len(layers) // 2 if settings.upper_half else 0
    every = settings.full and not settings.upper_half
    loss = loss_for(model, start, tokens.pad, decoder=decoder, recompute=settings.recompute, every=every)
    trained = range(start, len(layers)) if isinstance(loss, Layers) else None
    if settings.full:
        return thawed(model, trained).train(), loss
    made = adapted(model, settings.lora, spec=base.spec, layers=trained, decoder=decoder)
    return made.train(), loss


def fit(
    model: torch.nn.Module,
    loss: Loss,
    epochs: Sequence[Sequence[Example]],
    settings: StudentTraining,
    advance: Advance,
    *,
    held_out: Sequence[Example] = (),
    devices: Devices | None = None,
    saved: Checkpoint | None = None,
) -> Trained:
    """Train what is trainable, in place. Each step is the mean over its target tokens; `advance` counts examples.

    Goes on from what was `saved` and ends as an unbroken run would: the order of the batches and each step's
    random numbers depend on the seed alone. With `held_out` examples the weights of the epoch that is best on
    them stay. Raises BadConfig when the loss leaves the numbers.
    """
    devices, saved = devices or Devices(), saved or Checkpoint()
    order = random.Random(settings.seed)
    plan = [batches(examples, settings.batch, order) for examples in epochs]
    steps = sum(map(len, plan))
    weights = trainable(model)
    optimizer = torch.optim.AdamW(weights, lr=settings.peak_lr, weight_decay=0.0)
    at, best = saved.restore(weights, optimizer)
    stepper = Stepper(
        loss, weights, optimizer, scaler_for(model, weights, at.scaler), devices, settings.pass_tokens
    )
    devices.wait()  # with no step left, the leader would drop the file before the others have read it
    advance(at.seen)
    first = 0  # step of the epoch
    for number, epoch in enumerate(plan):
        for step, batch in enumerate(epoch, first):
            if step < at.step or at.over:
                continue
            if step == first:
                at.total, at.count = 0.0, 0
            for group in optimizer.param_groups:
                group["lr"] = settings.peak_lr * rate(step, steps)
            total = stepper.step(batch, seed=settings.seed + 7919 * step)
            at.total, at.count = at.total + total, at.count + sum(len(e.target) for e in batch)
            at.step, at.seen, at.tokens = step + 1, at.seen + len(batch), at.tokens + sum(map(len, batch))
            if not math.isfinite(at.total):
                raise BadConfig(f"the loss is no number any more; lower peak_lr from {settings.peak_lr}")
            advance(len(batch))
            if devices.leads and saved.due():
                at.scaler = stepper.scaler.state_dict()
                saved.save(at, weights, optimizer, best)
        first += len(epoch)
        if at.epoch == number and at.step == first and not at.over:
            at.epoch, at.loss = number + 1, at.total / max(at.count, 1)
            if held_out:
                best = _judge(stepper, model, held_out, at, best, settings.patience)
    if best:
        with torch.no_grad():
            for weight, value in zip(weights, best, strict=True):
                weight.copy_(value)
    shown = {e.key for examples in epochs for e in examples}
    return Trained(len(shown), at.tokens, at.best if held_out else at.loss)


def _judge(
    stepper: Stepper,
    model: torch.nn.Module,
    held_out: Sequence[Example],
    at: CheckpointPosition,
    best: list[torch.Tensor],
    patience: int,
) -> list[torch.Tensor]:
    """The weights to keep after an epoch: its own when it is the best on the held-out examples so far.

    The processes judge by one number, each having measured its share: where one ended early, the others would wait.
    """
    model.eval()
    found = stepper.measure(held_out)
    model.train()
    if not math.isfinite(found):
        raise BadConfig("the held-out loss is no number; set student.precision=float32 or lower peak_lr")
    if found < at.best:
        at.best, at.waited = found, 0
        return [weight.detach().clone() for weight in stepper.weights]
    at.waited += 1
    at.over = at.waited >= patience
    return best


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
