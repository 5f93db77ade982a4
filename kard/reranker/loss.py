"""The losses of the reranker: rank by the question as BM25 ranks by the rationale (section 3.3).

Scores are (Q questions, C candidates), higher is better. `present` (Q, C) is False where a question has fewer than
C candidates; such places take no part. Every question has at least one candidate.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from kard.config import Loss
from kard.reranker.candidates import TrainingBatch


def loss_of(name: Loss, scores: Tensor, batch: TrainingBatch, tau_student: float) -> Tensor:
    """Return the loss of that name for the scores (Q, C) of a batch, a scalar.

    `kl` is the paper's. `ce`, `infonce` and `mix` want one candidate of each question above the others. `ce` takes
    the best by the rationales among those drawn, `infonce` the best of all by the rationales, and `mix` the best of
    all by rationales and question mixed (as RADIO ranks). The latter two also want it above the other questions'
    best.
    """
    present = torch.from_numpy(batch.present).to(scores.device)
    if name == "kl":
        return divergence(scores, torch.from_numpy(batch.target).to(scores.device), tau_student, present)
    return hard_loss(scores, torch.from_numpy(batch.best).to(scores.device), tau_student, present)


def divergence(scores: Tensor, target: Tensor, tau_student: float = 1.0, present: Tensor | None = None) -> Tensor:
    """Return KL(target || softmax(scores / tau_student)), mean over questions, a scalar.

    `target` (Q, C) sums to 1 a question.
    """
    log_q = _masked(scores / tau_student, present).log_softmax(-1)
    terms = torch.special.xlogy(target, target) - target * log_q
    if present is not None:
        terms = terms.masked_fill(~present, 0.0)
    return terms.sum(-1).mean()


def hard_loss(scores: Tensor, best: Tensor, tau_student: float = 1.0, present: Tensor | None = None) -> Tensor:
    """Return -log softmax(scores / tau_student) at the columns `best` (Q,), mean over questions, a scalar."""
    return functional.cross_entropy(_masked(scores / tau_student, present), best)


def _masked(scores: Tensor, present: Tensor | None) -> Tensor:
    # The lowest finite number instead of -inf: 0 * (-inf - -inf) would be NaN.
    return scores if present is None else scores.masked_fill(~present, torch.finfo(scores.dtype).min)
