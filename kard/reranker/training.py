"""Train the reranker: rank by the question as BM25 ranks by the teacher's rationale (section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sqlite_utils import Database
from torch import Tensor

from kard.config import RerankerTraining
from kard.db import now, writing
from kard.encoders.cross_encoder import CrossEncoder
from kard.encoders.encoder import Encoder
from kard.models.adapters import WEIGHTS, hash_of
from kard.models.lora import learning_rate, trainable
from kard.progress import SILENT, Advance, Progress
from kard.records import canonical, digest
from kard.reranker.adapters import prepare, save
from kard.reranker.candidates import Pool, annealed, draw
from kard.reranker.dataset import RerankerDataset, TrainingQuestion, read_lessons
from kard.reranker.loss import loss_of
from kard.reranker.passage_vectors import CandidatePassages, VectorsOf, on_disk
from kard.reranker.validation import hits_at, mean_of, score_matrix, share_within

if TYPE_CHECKING:
    from kard.models.bases import Base



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
    lessons: RerankerDataset | None = None,
    experiment: str = "",
    knowledge: Path | None = None,
    progress: Progress = SILENT,
) -> str:
    """Train on the accepted rationales of (the first `limit`) train questions, or on `lessons`; the reranker's id.

    The id is a hash of the base's weights, the data, the settings and the task: trained once, it is returned
    at once. One that is trained for an `experiment` is another one, which no run takes for its own. With the folder
    of the knowledge base, vectors of passages that do not learn are kept there. Raises Missing when nothing was
    grounded, NoBase when the base is no encoder that takes LoRA.
    """
    if lessons is None:
        lessons = read_lessons(db, task_name, index_id, teacher_id=teacher_id, limit=limit)
    parts = [task_name, base.sha256, lessons.sha256, settings.hash(), *([experiment] if experiment else [])]
    reranker_id = digest(*parts)
    folder = adapters / reranker_id
    row = db.execute("select sha256 from rerankers where id = ?", [reranker_id]).fetchone()
    if row is not None and (folder / WEIGHTS).is_file() and hash_of(folder / WEIGHTS) == row[0]:
        return reranker_id
    started = monotonic()
    encoder = untrained(base, settings)
    vectors_of = None if knowledge is None else on_disk(db, lessons, base, knowledge, progress)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        metrics = train_model(encoder, base, lessons, settings, progress, vectors_of)
    sha256 = save(folder, encoder, base)
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
        "experiment": experiment,
    }
    with writing(db):  # an upsert keeps the scores of a reranker whose lost adapter was made again
        db.table("rerankers").upsert(record, pk="id")
    return reranker_id


def untrained(base: Base, settings: RerankerTraining) -> Encoder | CrossEncoder:
    """The base as these settings read it. Raises NoBase."""
    if settings.scorer == "cross":
        return CrossEncoder.of(base, max_length=settings.max_length, seed=settings.seed)
    return Encoder.of(base, max_length=settings.max_length, projection=settings.projection)


def train_model(
    encoder: Encoder | CrossEncoder,
    base: Base,
    lessons: RerankerDataset,
    settings: RerankerTraining,
    progress: Progress = SILENT,
    vectors_of: VectorsOf | None = None,
) -> dict[str, object]:
    """Train the model in memory; what was measured: each step's loss, Hits@k before and after. Raises NoBase.

    `vectors_of` gives the vectors of passages where only the questions' side learns.
    """
    taught, held_out = lessons.split(settings.seed, settings.held_out)
    taken = [CandidateSet.of(lesson, settings.pool) for lesson in taught]
    shelf = CandidatePassages(lessons.texts)
    if settings.side == "question" and isinstance(encoder, Encoder):
        read = [t.passages for t in taken] if settings.epochs else []
        numbers = chain(*read, *(lesson.question_list() for lesson in held_out))
        shelf = CandidatePassages.of(lessons, encoder, map(int, numbers), vectors_of)
    before = hits_at(encoder, held_out, shelf, settings)
    prepare(encoder, base, settings)
    best = Best(settings.patience if held_out else 0, encoder.model, before)
    losses = _learn(encoder, taken, held_out, shelf, settings, best, progress)
    best.restore()
    after = best.hits if best.patience else hits_at(encoder, held_out, shelf, settings)
    return {
        "loss": [round(loss, 5) for loss in losses],
        "held_out": len(held_out),
        "hits_bm25": share_within([(lesson.needed, lesson.question_list()) for lesson in held_out]),
        "hits_before": before,
        "hits_after": after,
        **({"epochs": best.seen, "kept": best.epoch} if best.patience else {}),
    }


@dataclass
class Best:
    """The best state so far by held-out Hits@k, which training returns to when it was told to be patient."""

    patience: int
    model: Any
    hits: dict[str, float]  # of the state that is kept, at first of the untrained one
    epoch: int = 0  # that the kept state was reached in, 0 before the first
    seen: list[dict[str, float]] = field(default_factory=lambda: list[dict[str, float]]())  # by epoch
    _state: list[Tensor] = field(default_factory=lambda: list[Tensor]())

    def __post_init__(self) -> None:
        if self.patience:
            self._keep()

    def _keep(self) -> None:
        self._state = [weight.detach().clone() for weight in trainable(self.model)]

    def see(self, hits: dict[str, float]) -> bool:
        """Take note of an epoch's end; whether training may go on. Of equal epochs the first is kept."""
        self.seen.append(hits)
        if mean_of(hits) > mean_of(self.hits):
            self.hits, self.epoch = hits, len(self.seen)
            self._keep()
        return len(self.seen) - self.epoch < self.patience

    @torch.no_grad()
    def restore(self) -> None:
        """Give the model the state that was kept."""
        for weight, value in zip(trainable(self.model), self._state, strict=False):  # none without patience
            weight.copy_(value)


def _learn(
    encoder: Encoder | CrossEncoder,
    lessons: Sequence[CandidateSet],
    held_out: Sequence[TrainingQuestion],
    shelf: CandidatePassages,
    settings: RerankerTraining,
    best: Best,
    progress: Progress,
) -> list[float]:
    """The loss of each step."""
    rng = np.random.default_rng(settings.seed)
    optimizer = torch.optim.AdamW(trainable(encoder.model), lr=settings.peak_lr, weight_decay=0.0)
    steps = settings.epochs * -(-len(lessons) // settings.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, steps))
    losses: list[float] = []

    def epoch(number: int, advance: Advance) -> None:
        order = rng.permutation(len(lessons))
        for start in range(0, len(order), settings.batch):
            some = [lessons[i] for i in order[start : start + settings.batch]]
            pools = [one.pool(number, settings.rationales) for one in some]
            done = len(losses) / max(1, steps - 1)
            drawn = draw(pools, settings, rng, done)
            # What is not present is the first passage once more, so that nothing is encoded for it.
            asked = [one.lesson.text for one in some]
            scores = score_matrix(encoder, asked, drawn.passages, shelf, settings)
            loss = loss_of(settings.loss, scores, drawn, annealed(settings.tau_student, settings.anneal, done))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            advance(1)

    _start_training(encoder.model)
    with progress.bar("train reranker", steps) as advance:
        for number in range(settings.epochs):
            epoch(number, advance)
            if best.patience:
                encoder.model.eval()
                if not best.see(hits_at(encoder, held_out, shelf, settings)):
                    break
                _start_training(encoder.model)
    encoder.model.eval()
    return losses


@dataclass(frozen=True, slots=True)
class CandidateSet:
    """A question that is trained on, with the passages that take part."""

    lesson: TrainingQuestion
    passages: NDArray[np.int64]

    @classmethod
    def of(cls, lesson: TrainingQuestion, count: int) -> CandidateSet:
        """With the first `count` passages by its rationales together, as many by itself, and the first of each."""
        firsts = [int(some.passages[some.bm25.argmax()]) for some in lesson.rationales]
        return cls(lesson, np.union1d(Pool.of(lesson.rationales).first(count), firsts))

    def pool(self, epoch: int, count: int) -> Pool:
        """The candidates of `count` rationales, each epoch (from 0) of the next ones in turn."""
        told = self.lesson.rationales
        some = [told[(epoch * count + n) % len(told)] for n in range(min(count, len(told)))]
        return Pool.of(some).only(self.passages)


def _start_training(model: Any) -> None:
    """Let LoRA's own dropout work, but not the base's: that would cost the fused attention, 1.6 times the step."""
    model.eval()
    for name, module in model.named_modules():
        if "lora_dropout" in name:
            module.train()
