"""What the reranker is trained to do: rank by the question as BM25 ranks by the rationale (section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor


def distil_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    tau_student: float = 1.0,
    tau_teacher: float = 1.0,
    present: Tensor | None = None,
) -> Tensor:
    """KL(softmax(teacher / tau_teacher) || softmax(student / tau_student)), mean over questions; a scalar.

    Scores are (Q questions, C candidates), higher is better. `present` (Q, C) is False where a question
    has fewer than C candidates; such places take no part. Every question has at least one candidate.
    """
    target = teacher / tau_teacher
    guess = student / tau_student
    if present is not None:
        # The lowest finite number instead of -inf: 0 * (-inf - -inf) would be NaN.
        target = target.masked_fill(~present, torch.finfo(target.dtype).min)
        guess = guess.masked_fill(~present, torch.finfo(guess.dtype).min)
    log_p, log_q = target.log_softmax(-1), guess.log_softmax(-1)
    terms = log_p.exp() * (log_p - log_q)
    if present is not None:
        terms = terms.masked_fill(~present, 0.0)
    return terms.sum(-1).mean()
