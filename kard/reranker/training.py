"""Train the reranker: rank by the question as BM25 ranks by the teacher's rationale (section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

from kard.config import CUTOFFS, RerankerTraining
from kard.db import now, record_base, writing
from kard.encoders.encoder import CrossEncoder, Encoder
from kard.models.adapters import fault_of
from kard.models.lora import learning_rate, trainable
from kard.progress import SILENT, Advance, Progress, timed
from kard.recipes import recipe_column, recipe_id
from kard.records import canonical
from kard.reranker.candidates import CandidateSet, TrainingQuestion, annealed, draw
from kard.reranker.dataset import CandidatePassages, RerankerDataset, VectorsOf, stored_vectors
from kard.reranker.loss import loss_of
from kard.reranker.model import RerankerModel, make_trainable, save_adapter, untrained_model
from kard.work.claims import claimed

if TYPE_CHECKING:
    from kard.models.bases import Base

BATCH = 8  # questions measured at once: token vectors of their passages take some 50 MB


def train_reranker(
    db: Database,
    dataset: RerankerDataset,
    base: Base,
    settings: RerankerTraining,
    adapters: Path,
    *,
    knowledge: Path | None = None,
    experiment: str = "",
    progress: Progress = SILENT,
) -> str:
    """Train a reranker on the dataset, write it below `adapters` and record it; return its id.

    The id is the hash of the recipe: the task, the base's weights, the data and the settings. If such a reranker
    was trained before, its id is returned at once. One that is trained for an `experiment` has an id of its own,
    and no run uses it. `knowledge` is the folder of the knowledge base: vectors of passages that do not learn are
    kept there.
    Raises NoBase when the base is no encoder that takes LoRA.
    """
    recipe = dataset.recipe(base, settings, experiment)
    reranker_id = recipe_id(recipe)
    folder = adapters / reranker_id
    waiting = f"waiting for another process that trains the reranker {reranker_id}"
    with claimed(db, "reranker", reranker_id, lambda: progress.note(waiting)):
        row = db.execute("select sha256 from rerankers where id = ?", [reranker_id]).fetchone()
        if row is not None and not fault_of(folder, row[0]):
            record_base(db, "rerankers", reranker_id, base.spec)
            return reranker_id
        started = monotonic()
        model = untrained_model(
            base,
            settings.scorer,
            max_length=settings.max_length,
            projection=settings.projection,
            seed=settings.seed,
        )
        vectors_of = None if knowledge is None else stored_vectors(db, dataset, base, knowledge, progress)
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            metrics = train_model(model, base, dataset, settings, progress, vectors_of)
        sha256 = save_adapter(folder, model, base)
        record = {
            "id": reranker_id,
            "task": dataset.task,
            "base": base.spec,
            "base_sha256": base.sha256,
            "index_id": dataset.data.index,
            "settings": canonical(settings.values()),
            "data_sha256": dataset.data.sha256,
            "recipe": recipe_column(recipe),
            "questions": len(dataset.questions),
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


def train_model(
    model: RerankerModel,
    base: Base,
    dataset: RerankerDataset,
    settings: RerankerTraining,
    progress: Progress = SILENT,
    vectors_of: VectorsOf | None = None,
) -> dict[str, object]:
    """Train the model in memory; return the loss of each step, and Hits@k before and after. Raises NoBase.

    `vectors_of` gives the vectors of passages where only the questions' side learns.
    """
    training, held_out = dataset.split(settings.seed, settings.held_out)
    candidates = [CandidateSet.of(question, settings.pool) for question in training]
    passages = CandidatePassages(dataset.texts)
    if settings.side == "question" and isinstance(model, Encoder):
        trained_on = [c.passages for c in candidates] if settings.epochs else []
        numbers = chain(*trained_on, *(question.question_list() for question in held_out))
        passages = CandidatePassages.of(dataset, model, map(int, numbers), vectors_of)
    before = hits_at(model, held_out, passages, settings)
    make_trainable(model, base, settings)
    best = BestState(settings.patience if held_out else 0, model.model, before)
    losses = _learn(model, candidates, held_out, passages, settings, best, progress)
    best.restore()
    after = best.hits if best.patience else hits_at(model, held_out, passages, settings)
    return {
        "loss": [round(loss, 5) for loss in losses],
        "held_out": len(held_out),
        "hits_bm25": share_within([(question.needed, question.question_list()) for question in held_out]),
        "hits_before": before,
        "hits_after": after,
        **({"epochs": best.seen, "kept": best.epoch} if best.patience else {}),
    }


@dataclass
class BestState:
    """The weights with the best held-out Hits@k so far. Without `patience` nothing is kept."""

    patience: int  # epochs that training goes on without getting better
    model: Any
    hits: dict[str, float]  # of the kept state, at first of the untrained one
    epoch: int = 0  # after which the kept state was reached, 0 for the untrained one
    seen: list[dict[str, float]] = field(default_factory=lambda: list[dict[str, float]]())  # by epoch
    _state: list[Tensor] = field(default_factory=lambda: list[Tensor]())

    def __post_init__(self) -> None:
        if self.patience:
            self._keep()

    def _keep(self) -> None:
        self._state = [weight.detach().clone() for weight in trainable(self.model)]

    def see(self, hits: dict[str, float]) -> bool:
        """Take note of an epoch's hits; return whether to train on. Of equal epochs the first is kept."""
        self.seen.append(hits)
        if mean_of(hits) > mean_of(self.hits):
            self.hits, self.epoch = hits, len(self.seen)
            self._keep()
        return len(self.seen) - self.epoch < self.patience

    @torch.no_grad()
    def restore(self) -> None:
        """Give the model the kept weights."""
        for weight, value in zip(trainable(self.model), self._state, strict=False):  # none without patience
            weight.copy_(value)


def _learn(
    model: RerankerModel,
    candidates: Sequence[CandidateSet],
    held_out: Sequence[TrainingQuestion],
    passages: CandidatePassages,
    settings: RerankerTraining,
    best: BestState,
    progress: Progress,
) -> list[float]:
    """Train for the settings' epochs, or until `best` ends it; return the loss of each step."""
    rng = np.random.default_rng(settings.seed)
    optimizer = torch.optim.AdamW(trainable(model.model), lr=settings.peak_lr, weight_decay=0.0)
    steps = settings.epochs * -(-len(candidates) // settings.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, steps))
    losses: list[float] = []

    @timed("train a reranker")
    def train_epoch(epoch: int, advance: Advance) -> None:
        order = rng.permutation(len(candidates))
        for start in range(0, len(order), settings.batch):
            sets = [candidates[i] for i in order[start : start + settings.batch]]
            pools = [s.pool(epoch, settings.rationales) for s in sets]
            done = len(losses) / max(1, steps - 1)
            batch = draw(pools, settings, rng, done)
            questions = [s.question.text for s in sets]
            scores = score_matrix(model, questions, batch.passages, passages, settings)
            loss = loss_of(settings.loss, scores, batch, annealed(settings.tau_student, settings.anneal, done))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            advance(1)

    _start_training(model.model)
    with progress.bar("train reranker", steps) as advance:
        for epoch in range(settings.epochs):
            train_epoch(epoch, advance)
            if best.patience:
                model.model.eval()
                if not best.see(hits_at(model, held_out, passages, settings)):
                    break
                _start_training(model.model)
    model.model.eval()
    return losses


def _start_training(model: Any) -> None:
    """Switch on LoRA's own dropout, but not the base's: that would cost the fused attention, 1.6 times the step."""
    model.eval()
    for name, module in model.named_modules():
        if "lora_dropout" in name:
            module.train()


# --- scores, and Hits@k on questions that are not trained on --------------------------------------


def score_matrix(
    model: RerankerModel,
    questions: Sequence[str],
    numbers: NDArray[np.int64],
    passages: CandidatePassages,
    settings: RerankerTraining,
) -> Tensor:
    """Return the scores (Q, C) of each question's passages with these numbers (Q, C), with gradients.

    Gradients go through both sides, unless `passages` has vectors. (The authors' code leaves the passages' side
    out, by a flag that is set but never passed on.)
    """
    distinct, inverse = np.unique(numbers, return_inverse=True)
    places = inverse.reshape(numbers.shape)
    if isinstance(model, CrossEncoder):
        rows = np.repeat(np.arange(len(questions)), numbers.shape[1])
        pairs, inverse = np.unique(np.stack([rows, places.ravel()], 1), axis=0, return_inverse=True)
        texts = passages.read(distinct)
        scores = model.pair_scores(
            [questions[int(q)] for q, _ in pairs], [texts[int(p)] for _, p in pairs], fast=True
        )
        return scores[torch.from_numpy(inverse.ravel()).to(model.device)].view(places.shape)
    index = torch.from_numpy(places).to(model.device)
    if settings.scorer == "pooled":
        vectors = passages.rows(distinct, model.device)
        if vectors is None:
            vectors = model.pooled(passages.read(distinct), fast=True)
        return torch.einsum("qh,qch->qc", model.pooled(questions, fast=True, questions=True), vectors[index])
    question_vectors, question_masks = model.token_vectors(questions, fast=True, questions=True)
    vectors, masks = model.token_vectors(passages.read(distinct), fast=True)
    scores_of_questions: list[Tensor] = []
    for question, mask, row in zip(question_vectors, question_masks, index, strict=True):  # memory stays small
        cosines = torch.einsum("th,csh->cts", question[mask], vectors[row])
        best = cosines.masked_fill(~masks[row].unsqueeze(1), -1.0).amax(-1)
        scores_of_questions.append(best.mean(-1))
    return torch.stack(scores_of_questions)


def hits_at(
    model: RerankerModel,
    questions: Sequence[TrainingQuestion],
    passages: CandidatePassages,
    settings: RerankerTraining,
) -> dict[str, float]:
    """Return Hits@1, 3, 5, 10 over the questions' own lists, ranked by the model as it is; {} without questions."""
    ranked: list[tuple[frozenset[int], list[int]]] = []
    with_list = [question for question in questions if question.question_list()]
    ranked.extend((question.needed, []) for question in questions if not question.question_list())
    with torch.no_grad():
        for start in range(0, len(with_list), BATCH):
            batch = with_list[start : start + BATCH]
            lists = [question.question_list() for question in batch]
            width = max(len(numbers) for numbers in lists)
            padded = np.array([[*numbers, *numbers[:1] * (width - len(numbers))] for numbers in lists], np.int64)
            scores = score_matrix(model, [question.text for question in batch], padded, passages, settings)
            for question, numbers, row in zip(batch, lists, scores, strict=True):
                order = torch.argsort(row[: len(numbers)], descending=True, stable=True).tolist()
                ranked.append((question.needed, [numbers[i] for i in order]))
    return share_within(ranked)


def share_within(ranked: Sequence[tuple[frozenset[int], Sequence[int]]]) -> dict[str, float]:
    """Return the share of questions with a needed passage among the first k, by k as text (JSON's keys)."""
    if not ranked:
        return {}
    return {
        str(k): round(sum(not needed.isdisjoint(order[:k]) for needed, order in ranked) / len(ranked), 4)
        for k in CUTOFFS
    }


def mean_of(hits: Mapping[str, float]) -> float:
    """Return the mean of Hits@1, 3, 5 and 10, which is steadier than any of them."""
    return sum(hits.values()) / len(hits) if hits else 0.0
