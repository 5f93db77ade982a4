"""Train the reranker: rank by the question as BM25 ranks by the teacher's rationale (section 3.3)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.random import Generator
from sqlite_utils import Database
from torch import Tensor

from kard.adapters import WEIGHTS, hash_of, write
from kard.config import RerankerTraining
from kard.db import now
from kard.errors import NoBase
from kard.lora import state_of, trainable
from kard.progress import SILENT, Progress
from kard.records import canonical, digest
from kard.reranker.encoder import Encoder
from kard.reranker.lessons import Lesson, Lessons, read_lessons
from kard.reranker.loss import distil_loss

if TYPE_CHECKING:
    from kard.bases import Base

WARM_UP = 0.05  # of the steps
KS = (1, 3, 5, 10)


def train_reranker(
    db: Database,
    task_name: str,
    base: Base,
    adapters: Path,
    settings: RerankerTraining,
    *,
    index_id: str,
    teacher_id: str | None = None,
    limit: int | None = None,
    progress: Progress = SILENT,
) -> str:
    """Train on the accepted rationales of (the first `limit`) train questions; the reranker's id.

    The id is a hash of the base's weights, the data, the settings and the task: trained once, it is returned
    at once. Raises Missing when nothing was grounded, NoBase when the base is no encoder that takes LoRA.
    """
    lessons = read_lessons(db, task_name, index_id, teacher_id=teacher_id, limit=limit)
    reranker_id = digest(task_name, base.sha256, lessons.sha256, settings.hash())
    folder = adapters / reranker_id
    row = db.execute("select sha256 from rerankers where id = ?", [reranker_id]).fetchone()
    if row is not None and (folder / WEIGHTS).is_file() and hash_of(folder / WEIGHTS) == row[0]:
        return reranker_id
    started = monotonic()
    encoder = Encoder.of(base, max_length=settings.max_length)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        metrics = _train(encoder, base, lessons, settings, progress)
    sha256 = write(folder, state_of(encoder.model), encoder.model.peft_config["default"])
    record = {
        "id": reranker_id,
        "task": task_name,
        "base": base.spec,
        "base_sha256": base.sha256,
        "index_id": index_id,
        "settings": canonical(settings.values()),
        "data_sha256": lessons.sha256,
        "questions": len(lessons.lessons),
        "metrics": canonical(metrics),
        "path": f"{adapters.name}/{reranker_id}",
        "sha256": sha256,
        "milliseconds": round((monotonic() - started) * 1000, 1),
        "created": now(),
    }
    with db.atomic():  # an upsert keeps the scores of a reranker whose lost adapter was made again
        db.table("rerankers").upsert(record, pk="id")
    return reranker_id


def _train(
    encoder: Encoder, base: Base, lessons: Lessons, settings: RerankerTraining, progress: Progress
) -> dict[str, object]:
    taught, held_out = lessons.split(settings.seed)
    before = hits_at(encoder, held_out, lessons.texts, settings)
    encoder.model = _with_lora(encoder.model, base, settings)
    losses = _learn(encoder, taught, lessons.texts, settings, progress)
    encoder.model.eval()
    return {
        "loss": [round(loss, 5) for loss in losses],
        "held_out": len(held_out),
        "hits_bm25": _hits([(lesson.needed, lesson.question_list()) for lesson in held_out]),
        "hits_before": before,
        "hits_after": hits_at(encoder, held_out, lessons.texts, settings),
    }


def linear_names(model: Any) -> list[str]:
    """Every linear module of an encoder, by full name: what LoRA adapts, whatever the architecture calls it."""
    return [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]


def adapted_names(model: Any) -> list[str]:
    """The linear modules of the upper half of an encoder's layers, and those outside of all layers.

    The lower half then needs no gradient: 124 against 304 seconds of processor time for 250 questions of
    a real yes/no data set, both on a shared machine, and Hits@k apart by less than 100 questions can tell.
    """
    names = linear_names(model)
    numbers = [_layer(name) for name in names]
    half = (max((n for n in numbers if n is not None), default=-1) + 1) // 2
    return [name for name, n in zip(names, numbers, strict=True) if n is None or n >= half]


def _layer(name: str) -> int | None:
    """The number of the layer that a module is in: its name's first whole number."""
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def _with_lora(model: Any, base: Base, settings: RerankerTraining) -> Any:
    from peft import LoraConfig, get_peft_model

    names = adapted_names(model)
    if not names:
        raise NoBase(f"{base.spec} has no linear layers that LoRA could adapt; name another encoder")
    lora = settings.lora
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=names)
    with warnings.catch_warnings():
        # peft asks transformers for a property that transformers has renamed.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        made: Any = get_peft_model(model, config)
    made.peft_config["default"].base_model_name_or_path = base.spec  # never a path of this machine
    return made


def _learn(
    encoder: Encoder,
    lessons: Sequence[Lesson],
    texts: Sequence[str],
    settings: RerankerTraining,
    progress: Progress,
) -> list[float]:
    """The loss of each step."""
    rng = np.random.default_rng(settings.seed)
    optimizer = torch.optim.AdamW(trainable(encoder.model), lr=settings.peak_lr, weight_decay=0.0)
    steps = settings.epochs * -(-len(lessons) // settings.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, steps))
    losses: list[float] = []
    _start_training(encoder.model)
    with progress.bar("train reranker", steps) as advance:
        for epoch in range(settings.epochs):
            order = rng.permutation(len(lessons))
            for start in range(0, len(order), settings.batch):
                some = [lessons[i] for i in order[start : start + settings.batch]]
                loss = _loss(encoder, some, texts, settings, epoch, rng)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
                advance(1)
    return losses


def _start_training(model: Any) -> None:
    """Let LoRA's own dropout work, but not the base's: that would cost the fused attention, 1.6 times the step."""
    model.eval()
    for name, module in model.named_modules():
        if "lora_dropout" in name:
            module.train()


def learning_rate(step: int, steps: int) -> float:
    """Share of the peak at a step counted from 0: up in the first 5% of the steps, then linearly to 0."""
    warm = max(1, round(steps * WARM_UP))
    return min((step + 1) / warm, (steps - step) / max(1, steps - warm + 1)) if step < steps else 0.0


def _loss(
    encoder: Encoder,
    lessons: Sequence[Lesson],
    texts: Sequence[str],
    settings: RerankerTraining,
    epoch: int,
    rng: Generator,
) -> Tensor:
    """The loss of one batch.

    A question with several rationales takes one an epoch, in turn: the paper's loss exactly, since BM25 by
    another rationale is known for that rationale's own candidates only, so that distributions over one
    rationale's candidates could not be averaged over all of them.
    """
    width = settings.candidates
    teacher = np.zeros((len(lessons), width), dtype=np.float32)
    present = np.zeros((len(lessons), width), dtype=np.bool_)
    chosen = np.zeros((len(lessons), width), dtype=np.int64)
    for row, lesson in enumerate(lessons):
        candidates = lesson.rationales[epoch % len(lesson.rationales)]
        places = candidates.sample(width, rng)
        teacher[row, : len(places)] = candidates.bm25[places]
        present[row, : len(places)] = True
        chosen[row, : len(places)] = candidates.passages[places]
    distinct, where = np.unique(np.where(present, chosen, chosen[:, :1]), return_inverse=True)
    passages = [texts[int(i)] for i in distinct]
    student = score_matrix(
        encoder, [lesson.text for lesson in lessons], passages, where.reshape(chosen.shape), settings
    )
    device = encoder.device
    return distil_loss(
        student,
        torch.from_numpy(teacher).to(device),
        tau_student=settings.tau_student,
        tau_teacher=settings.tau_teacher,
        present=torch.from_numpy(present).to(device),
    )


def score_matrix(
    encoder: Encoder,
    questions: Sequence[str],
    passages: Sequence[str],
    where: np.ndarray[Any, np.dtype[np.int64]],
    settings: RerankerTraining,
) -> Tensor:
    """Scores (Q, C) of the passages that `where` (Q, C) numbers, with gradients through both sides.

    (The authors' code leaves the passages' side out of the gradient: a flag that is set but never passed on.)
    """
    index = torch.from_numpy(where).to(encoder.device)
    if settings.scorer == "pooled":
        asked = encoder.pooled(questions, fast=True)
        found = encoder.pooled(passages, fast=True)
        return torch.einsum("qh,qch->qc", asked, found[index])
    asked, asked_mask = encoder.token_vectors(questions, fast=True)
    found, found_mask = encoder.token_vectors(passages, fast=True)
    rows: list[Tensor] = []
    for question, mask, places in zip(asked, asked_mask, index, strict=True):  # one at a time: memory stays small
        cosines = torch.einsum("th,csh->cts", question[mask], found[places])
        best = cosines.masked_fill(~found_mask[places].unsqueeze(1), -1.0).amax(-1)
        rows.append(best.mean(-1))
    return torch.stack(rows)


def hits_at(
    encoder: Encoder, lessons: Sequence[Lesson], texts: Sequence[str], settings: RerankerTraining
) -> dict[str, float]:
    """Hits@1, 3, 5, 10 over the questions' own lists, ranked by the encoder as it is now; {} without questions."""
    ranked: list[tuple[frozenset[int], list[int]]] = []
    with torch.no_grad():
        for lesson in lessons:
            numbers = lesson.question_list()
            where = np.arange(len(numbers), dtype=np.int64).reshape(1, -1)
            scores = score_matrix(encoder, [lesson.text], [texts[i] for i in numbers], where, settings)[0]
            order = torch.argsort(scores, descending=True, stable=True).tolist()
            ranked.append((lesson.needed, [numbers[i] for i in order]))
    return _hits(ranked)


def _hits(ranked: Sequence[tuple[frozenset[int], Sequence[int]]]) -> dict[str, float]:
    """Share of questions with a needed passage among the first k, by k as text (JSON's keys)."""
    if not ranked:
        return {}
    return {
        str(k): round(sum(not needed.isdisjoint(order[:k]) for needed, order in ranked) / len(ranked), 4)
        for k in KS
    }
