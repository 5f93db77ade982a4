"""What the reranker is trained to do: rank by the question as BM25 ranks by the rationale (section 3.3).

Scores are (Q questions, C candidates), higher is better. `present` (Q, C) is False where a question has fewer
than C candidates; such places take no part. Every question has at least one candidate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from kard.config import Loss

if TYPE_CHECKING:
    from kard.reranker.candidates import TrainingBatch


def loss_of(name: Loss, student: Tensor, drawn: TrainingBatch, tau_student: float) -> Tensor:
    """The loss of that name for a batch of candidates with what the teacher says of them; a scalar.

    `kl` is the paper's. `ce`, `infonce` and `mix` want one candidate of each question above the others: the best by
    the rationales among those drawn (`ce`), the best of all by the rationales (`infonce`) or by rationales and
    question mixed (`mix`, as RADIO ranks), the latter two also above the other questions' best.
    """
    present = torch.from_numpy(drawn.present).to(student.device)
    if name == "kl":
        return divergence(student, torch.from_numpy(drawn.target).to(student.device), tau_student, present)
    return hard_loss(student, torch.from_numpy(drawn.best).to(student.device), tau_student, present)


def divergence(student: Tensor, target: Tensor, tau_student: float = 1.0, present: Tensor | None = None) -> Tensor:
    """KL(target || softmax(student / tau_student)), mean over questions; `target` (Q, C) sums to 1 a question."""
    log_q = _masked(student / tau_student, present).log_softmax(-1)
    terms = torch.special.xlogy(target, target) - target * log_q
    if present is not None:
        terms = terms.masked_fill(~present, 0.0)
    return terms.sum(-1).mean()


def distil_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    tau_student: float = 1.0,
    tau_teacher: float = 1.0,
    present: Tensor | None = None,
) -> Tensor:
    """KL(softmax(teacher / tau_teacher) || softmax(student / tau_student)), mean over questions; a scalar."""
    return divergence(student, _masked(teacher / tau_teacher, present).softmax(-1), tau_student, present)


def hard_loss(student: Tensor, best: Tensor, tau_student: float = 1.0, present: Tensor | None = None) -> Tensor:
    """-log softmax(student / tau_student) at `best` (Q,), mean over questions; a scalar."""
    return functional.cross_entropy(_masked(student / tau_student, present), best)


def _masked(scores: Tensor, present: Tensor | None) -> Tensor:
    # The lowest finite number instead of -inf: 0 * (-inf - -inf) would be NaN.
    return scores if present is None else scores.masked_fill(~present, torch.finfo(scores.dtype).min)
