"""Attention as plain products, where torch's fused kernels are slow on a processor.

Measured on one thread with SmolLM2-135M in bfloat16: a layer's attention over 8 x 200 tokens, forward and backward,
takes 51 ms fused and 19 ms here; a whole step of generation for 24 rows takes 220 ms fused and 114 ms here.
Elsewhere the fused kernels stay.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_TRAINING, _WRITING = "kard_causal", "kard_one_token"


def train_with(model: Any) -> None:
    """Let the model attend causally and without a mask: rows are padded on the right, where nothing looks."""
    AttentionInterface.register(_TRAINING, _causal)
    model.set_attn_implementation(_TRAINING)


def write_with(model: Any) -> None:
    """Let a decoder that would use torch's fused attention attend to a single new token in its own way."""
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(_WRITING, _one_token)
        AttentionMaskInterface.register(_WRITING, sdpa_mask)
        model.set_attn_implementation(_WRITING)


def _one_token(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **rest: Any,
) -> tuple[Tensor, Tensor | None]:
    """(B, heads, 1, D) queries over (B, groups, T, D) keys; `mask` (B, 1, 1, T) is true where to look."""
    odd = any(rest.get(name) is not None for name in ("softcap", "position_bias", "s_aux"))
    if query.shape[2] > 1 or odd:
        return sdpa_attention_forward(module, query, key, value, mask, dropout=dropout, scaling=scaling, **rest)
    batch, heads, _, width = query.shape
    groups, length = key.shape[1:3]
    q = query.reshape(batch * groups, heads // groups, width)
    scores = torch.bmm(q, key.reshape(batch * groups, length, width).transpose(1, 2))
    scores = scores.view(batch, heads, 1, length).mul_(scaling if scaling is not None else width**-0.5)
    if mask is not None:
        scores = scores.masked_fill_(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1).view(batch * groups, heads // groups, length)
    out = torch.bmm(weights, value.reshape(batch * groups, length, -1))
    return out.view(batch, 1, heads, -1), None


def _causal(
    _module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention as three products: torch's fused backward pass on the processor takes four times as long.

    (B, heads, T, D) queries; grouped heads are laid side by side instead of copying keys and values.
    """
    if mask is not None:
        # The model's own forward makes a mask of its own; this way of attending has no use for one.
        raise ValueError("no mask is taken")
    batch, heads, length, width = query.shape
    groups = key.shape[1]
    shared = heads // groups
    q = query.reshape(batch * groups, shared * length, width)
    scores = torch.bmm(q, key.reshape(batch * groups, length, width).transpose(1, 2))
    scale = scaling if scaling is not None else width**-0.5
    weights = cast(Tensor, _CausalSoftmax.apply(scores.view(batch * groups, shared, length, length), scale))
    out = torch.bmm(
        weights.view(batch * groups, shared * length, length), value.reshape(batch * groups, length, -1)
    )
    return out.view(batch, heads, length, -1).transpose(1, 2), None


class _CausalSoftmax(torch.autograd.Function):
    """Softmax of scale x scores over what is not ahead, (..., T, T); the scores' memory is used again."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, scale: float) -> Tensor:
        length = scores.shape[-1]
        least = torch.finfo(scores.dtype).min
        ahead = torch.full((length, length), least, dtype=scores.dtype, device=scores.device).triu_(1)
        weights = scores.mul_(scale).add_(ahead).softmax(-1)
        ctx.save_for_backward(weights)
        ctx.scale = scale
        return weights

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weights,) = ctx.saved_tensors
        gradient = torch.ops.aten._softmax_backward_data(grads[0], weights, -1, weights.dtype)
        return gradient.mul_(ctx.scale), None
