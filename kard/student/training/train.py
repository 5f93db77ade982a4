"""Train a student, from question (and passages) to rationale and answer (section 3.2)."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from sqlite_utils import Database
from torch import Tensor, nn

from kard.config import StudentTraining
from kard.db import record_base
from kard.errors import BadConfig
from kard.methods import Method
from kard.models.adapters import fault_of, write_adapter
from kard.models.bases import Base
from kard.models.hardware import Devices, load_base
from kard.models.lora import adapt_language_model, config_of, learning_rate, state_of, trainable, unfreeze
from kard.processes import keep_memory
from kard.progress import SILENT, Advance, Progress, timed
from kard.recipes import recipe_column, recipe_id
from kard.records import canonical
from kard.student.examples import (
    Pair,
    RationaleSource,
    TrainingExtras,
    pairs_by_epoch,
    render_pair,
    student_data,
    within_budget,
)
from kard.student.prompt import signature_for
from kard.student.records import StudentRow, store_student, student_recipe
from kard.student.tokens import Tokens, grouped
from kard.student.training.checkpoint import Checkpoint, CheckpointPosition
from kard.student.training.loss import Example, LayerwiseLoss, Loss, loss_for
from kard.tasks import Task
from kard.work.claims import claimed

POOL = 16  # batches that are shuffled together and sorted by length
FIRST_SCALE = 4096.0  # of gradients in float16; halved where it was too much, doubled after 2,000 steady steps
LEAST_SCALE = 2.0**-10  # below, the gradients are not finite at any scale


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training run saw and reached."""

    examples: int  # distinct sequences, as the settings vary them
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
    source: RationaleSource,
    *,
    index_id: str | None,
    extras: TrainingExtras | None = None,
    progress: Progress = SILENT,
    checkpoints: Path | None = None,
) -> str:
    """Train a student on what the store holds, unless it was trained before; return its id.

    The adapter is written before its row, so a killed run leaves nothing that counts. A checkpoint is left in
    `checkpoints`, by default the folder of the adapters. Raises Missing with the command for a missing step, NoBase
    for a base that cannot write, BadConfig if the loss is not finite.
    """
    pairs, data = student_data(db, task, method, settings, source, index_id=index_id, extras=extras)
    signature = signature_for(task.answer, method)
    tokens = Tokens.load(base.folder, decoder=base.kind == "decoder")
    pairs = within_budget(
        pairs, lambda pair: len(tokens.target(render_pair(signature, pair, settings)[1])), settings.max_target
    )
    epochs = pairs_by_epoch(pairs, settings)
    recipe = student_recipe(task.name, size, base, method, settings, data)
    student_id = recipe_id(recipe)
    waiting = f"waiting for another process that trains the student {student_id}"
    checkpoint = Checkpoint((checkpoints or adapters) / f".{student_id}.checkpoint")
    with claimed(db, "student", student_id, lambda: progress.note(waiting)):
        stored = db.execute("select sha256 from students where id = ?", [student_id]).fetchone()
        if stored and not fault_of(adapters / student_id, stored[0]):
            checkpoint.discard()  # of a run that was killed after its last commit
            record_base(db, "students", student_id, base.spec)
            return student_id
        start = time.perf_counter()
        devices = Devices()
        examples: dict[Pair, Example] = {}
        for pair in (pair for epoch in epochs for pair in epoch):
            if pair not in examples:
                prompt, pieces = render_pair(signature, pair, settings)
                examples[pair] = tokenize_example(tokens, len(examples), prompt, pieces, settings)
        lists = [[examples[pair] for pair in epoch] for epoch in epochs]
        question_of = {example.key: pair.question_id for pair, example in examples.items()}
        rationale_of = {example.key: pair.rationale_id for pair, example in examples.items()}
        lists, held_out = hold_out(lists, question_of, settings)
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            model, loss = prepare_model(base, tokens, settings)
            if words := checkpoint.resumed(len(lists)):
                progress.note(words)
            with progress.bar(f"train {method.name} {size}", sum(map(len, lists))) as advance:
                trained = fit(
                    model, loss, lists, settings, advance, held_out=held_out, devices=devices, checkpoint=checkpoint
                )
        if not devices.leads:
            devices.wait()
            return student_id
        sha256 = write_adapter(adapters / student_id, state_of(model), config_of(model, base.spec))
        row = StudentRow(
            student_id,
            task.name,
            method.name,
            size,
            base.spec,
            base.sha256,
            settings=canonical(settings.values()),
            data_sha256=data.sha256,
            recipe=recipe_column(recipe),
            seed=settings.seed,
            examples=len({rationale_of[e.key] for e in chain(*lists)}),  # draws vary what is seen, not this number
            tokens=trained.tokens,
            loss=trained.loss,
            path=f"{adapters.name}/{student_id}",
            sha256=sha256,
            milliseconds=1000 * (time.perf_counter() - start),
            **measure_fit(list(examples.values()), settings),
        )
        store_student(db, row)
        checkpoint.discard()
        devices.wait()
        return student_id


def hold_out(
    epochs: Sequence[Sequence[Example]], question_of: Mapping[int, int], settings: StudentTraining
) -> tuple[list[list[Example]], list[Example]]:
    """Return the examples to train on, by epoch, and those of the questions that only measure (`held_out`).

    `question_of` gives the question of an example's key.
    """
    questions = sorted(set(question_of.values()))
    random.Random(settings.seed).shuffle(questions)
    measuring = set(questions[: round(settings.held_out * len(questions))])
    held_out = {e.key: e for examples in epochs for e in examples if question_of[e.key] in measuring}
    return [[e for e in examples if e.key not in held_out] for examples in epochs], list(held_out.values())


def tokenize_example(
    tokens: Tokens, key: int, prompt: str, pieces: Sequence[tuple[str, str]], settings: StudentTraining
) -> Example:
    """Return a prompt, cut to fit, and its whole target as token ids."""
    ids, cut = tokens.fit_prompt(prompt, settings.max_length)
    return Example(key, ids, tokens.target(pieces), cut)


def measure_fit(examples: Sequence[Example], settings: StudentTraining) -> dict[str, Any]:
    """Return the columns of `students` that say whether prompts and targets had room."""
    lengths = [len(example.target) for example in examples]
    return {
        "cut": sum(example.cut for example in examples) / len(examples),
        "target_tokens": max(lengths),
        "long_targets": sum(length > settings.max_target for length in lengths) if settings.max_target else 0,
    }


def prepare_model(base: Base, tokens: Tokens, settings: StudentTraining) -> tuple[nn.Module, Loss]:
    """Load a base with a new adapter, or with trainable weights of its own, and return it with its loss.

    With `upper_half` a decoder of known build is trained in the upper half of its layers only, and the
    lower half runs once an example: 1.9 times as fast at nearly the same accuracy.
    """
    keep_memory()
    decoder = base.kind == "decoder"
    # Steps on weights themselves are lost in bfloat16's seven bits.
    model = load_base(base, "float32" if settings.full else settings.precision)
    layers = getattr(getattr(model, "model", None), "layers", ()) if decoder else ()
    start = len(layers) // 2 if settings.upper_half else 0
    every = settings.full and not settings.upper_half
    loss = loss_for(model, start, tokens.pad, decoder=decoder, recompute=settings.recompute, every=every)
    trained = range(start, len(layers)) if isinstance(loss, LayerwiseLoss) else None
    if settings.full:
        return unfreeze(model, trained).train(), loss
    adapted = adapt_language_model(model, settings.lora, spec=base.spec, layers=trained, decoder=decoder)
    return adapted.train(), loss


def fit(
    model: nn.Module,
    loss: Loss,
    epochs: Sequence[Sequence[Example]],
    settings: StudentTraining,
    advance: Advance,
    *,
    held_out: Sequence[Example] = (),
    devices: Devices | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train in place what is trainable. A step is the mean over its target tokens; `advance` counts examples.

    Continues from the checkpoint and ends as an unbroken run would: the order of the batches and each step's
    random numbers depend on the seed alone. With `held_out` examples the weights of the epoch that is best on
    them stay. Raises BadConfig if the loss is not finite.
    """
    devices, checkpoint = devices or Devices(), checkpoint or Checkpoint()
    order = random.Random(settings.seed)
    plan = [shuffled_batches(examples, settings.batch, order) for examples in epochs]
    steps = sum(map(len, plan))
    weights = trainable(model)
    optimizer = torch.optim.AdamW(weights, lr=settings.peak_lr, weight_decay=0.0)
    at, best = checkpoint.restore(weights, optimizer)
    scaler = gradient_scaler(model, weights, at.scaler)
    stepper = Stepper(loss, weights, optimizer, scaler, devices, settings.pass_tokens)
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
                group["lr"] = settings.peak_lr * learning_rate(step, steps)
            total = stepper.step(batch, seed=settings.seed + 7919 * step)
            at.total, at.count = at.total + total, at.count + sum(len(e.target) for e in batch)
            at.step, at.seen, at.tokens = step + 1, at.seen + len(batch), at.tokens + sum(map(len, batch))
            if not math.isfinite(at.total):
                raise BadConfig(f"the loss is not finite any more; lower peak_lr from {settings.peak_lr}")
            advance(len(batch))
            if devices.leads and checkpoint.due():
                at.scaler = stepper.scaler.state_dict()
                checkpoint.save(at, weights, optimizer, best)
        first += len(epoch)
        if at.epoch == number and at.step == first and not at.over:
            at.epoch, at.loss = number + 1, at.total / max(at.count, 1)
            if held_out:
                best = _end_epoch(stepper, model, held_out, at, best, settings.patience)
    if best:
        with torch.no_grad():
            for weight, value in zip(weights, best, strict=True):
                weight.copy_(value)
    keys = {e.key for examples in epochs for e in examples}
    return Trained(len(keys), at.tokens, at.best if held_out else at.loss)


def _end_epoch(
    stepper: Stepper,
    model: nn.Module,
    held_out: Sequence[Example],
    at: CheckpointPosition,
    best: list[Tensor],
    patience: int,
) -> list[Tensor]:
    """Return the weights of the best epoch so far: the present ones if their held-out loss is the lowest.

    All processes judge by one number, to which each adds its share. If one ended early, the others would wait.
    """
    model.eval()
    held_out_loss = stepper.measure(held_out)
    model.train()
    if not math.isfinite(held_out_loss):
        raise BadConfig("the held-out loss is not finite; set student.precision=float32 or lower peak_lr")
    if held_out_loss < at.best:
        at.best, at.waited = held_out_loss, 0
        return [weight.detach().clone() for weight in stepper.weights]
    at.waited += 1
    at.over = at.waited >= patience
    return best


def shuffled_batches(examples: Sequence[Example], size: int, order: random.Random) -> list[list[Example]]:
    """Return the examples in a random order, in batches of like length, so that little of a batch is padding."""
    shuffled = list(examples)
    order.shuffle(shuffled)
    batches: list[list[Example]] = []
    for start in range(0, len(shuffled), size * POOL):
        pool = sorted(shuffled[start : start + size * POOL], key=len)
        batches += [pool[i : i + size] for i in range(0, len(pool), size)]
    order.shuffle(batches)
    return batches


@dataclass(frozen=True, slots=True)
class Stepper:
    """Optimizer steps on the mean over a batch's target tokens: in several passes, shared by devices."""

    loss: Loss
    weights: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    devices: Devices
    pass_tokens: int  # padded, in one pass

    @timed("train a student")
    def step(self, batch: Sequence[Example], *, seed: int) -> float:
        """Take a step; return the batch's summed loss. Raises BadConfig for gradients that never fit float16."""
        torch.manual_seed(seed)
        targets = sum(len(e.target) for e in batch)
        summed = torch.zeros((), device=self.weights[0].device)
        self.scaler.scale(summed)  # a process without a share of the batch needs its scale set, too
        for part in self._passes(self.devices.share(batch)):
            part_loss = self.loss(part)
            self.scaler.scale(part_loss / targets).backward()
            summed = summed + part_loss.detach()
        total = self.devices.sum_gradients(self.weights, summed)
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.scaler.is_enabled() and self.scaler.get_scale() < LEAST_SCALE:
            raise BadConfig("gradients are not finite in float16; set student.precision=float32")
        return total

    @torch.no_grad()
    def measure(self, examples: Sequence[Example]) -> float:
        """Return the mean loss of the examples' target tokens, without a step."""
        share = sorted(self.devices.share(examples), key=len)
        summed = sum((self.loss(part).item() for part in self._passes(share)), 0.0)
        total = self.devices.sum(torch.tensor(summed, dtype=torch.float64, device=self.weights[0].device))
        return total.item() / sum(len(e.target) for e in examples)

    def _passes(self, examples: Sequence[Example]) -> list[list[Example]]:
        groups = grouped([len(e) for e in examples], self.pass_tokens)
        return [[examples[row] for row in group] for group in groups]


def gradient_scaler(model: nn.Module, weights: Sequence[Tensor], state: dict[str, float]) -> torch.amp.GradScaler:
    """Return the scaler of gradients for float16, where small ones would be lost; it does nothing elsewhere."""
    halves = any(p.dtype == torch.float16 for p in model.parameters())
    scaler = torch.amp.GradScaler(weights[0].device.type, init_scale=FIRST_SCALE, enabled=halves)
    if state:
        scaler.load_state_dict(state)
    return scaler
