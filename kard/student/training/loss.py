"""The loss of target tokens, for any base: by the shortest way that gives the model's own logits.

An example is the ids of a prompt and of a target that ends with end-of-text. The loss is the sum over a batch's
target tokens; whoever steps divides by their number, so that padding and batching change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kard.student.generation import attention
from kard.student.tokens import Ids

CACHE_BYTES = 2 << 30  # of the lower half's states; what does not fit is computed again in each epoch
HEAD_ROWS = 256  # target tokens whose logits are held at once: 50 MB in float32 for 49,152 words


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of one training sequence. `key` tells equal sequences."""

    key: int
    prompt: Ids
    target: Ids

    def __len__(self) -> int:
        return len(self.prompt) + len(self.target)


class Loss(Protocol):
    """Summed cross-entropy of the target tokens of a batch."""

    def __call__(self, batch: Sequence[Example]) -> Tensor: ...


class Layers:
    """Decoders whose layers lie in `model.layers`: the frozen lower ones run once an example, the upper ones train.

    Padding is on the right, where no causal token looks, so no mask is needed. The head sees target tokens only.
    """

    def __init__(self, model: Any, start: int, *, cache_bytes: int = CACHE_BYTES, recompute: bool = False) -> None:
        self.model, self.core, self.start, self.recompute = model, model.model, start, recompute
        self.device = next(model.parameters()).device
        self._states: dict[int, Tensor] = {}
        self._room = cache_bytes

    def __call__(self, batch: Sequence[Example]) -> Tensor:
        """The summed loss of the batch's target tokens."""
        states = self._upper(self._lower(batch))
        rows = [i for i, e in enumerate(batch) for _ in e.target]
        places = [len(e.prompt) - 1 + j for e in batch for j in range(len(e.target))]
        labels = torch.tensor([i for e in batch for i in e.target], device=self.device)
        head = self.model.get_output_embeddings()
        picked = states[torch.tensor(rows, device=self.device), torch.tensor(places, device=self.device)]
        return cast(Tensor, _HeadLoss.apply(picked, head.weight, labels))

    def logits(self, ids: Tensor) -> Tensor:
        """Logits of every position of (B, T) ids, as this way computes them."""
        with torch.no_grad():
            return self.model.get_output_embeddings()(self._upper(self._run(self._embed(ids), 0, self.start)))

    def _lower(self, batch: Sequence[Example]) -> Tensor:
        """What enters the upper layers, (B, longest, D)."""
        missing = [e for e in batch if e.key not in self._states]
        fresh: dict[int, Tensor] = {}
        if missing:
            ids = torch.zeros((len(missing), max(map(len, missing))), dtype=torch.long)
            for row, e in enumerate(missing):
                ids[row, : len(e)] = torch.tensor([*e.prompt, *e.target])
            with torch.no_grad():
                states = self._run(self._embed(ids.to(self.device)), 0, self.start)
            for row, e in enumerate(missing):
                fresh[e.key] = own = states[row, : len(e)].clone()
                if self.start and own.nbytes <= self._room:
                    self._states[e.key] = own
                    self._room -= own.nbytes
        found = [self._states.get(e.key, fresh.get(e.key)) for e in batch]
        return torch.nn.utils.rnn.pad_sequence(cast("list[Tensor]", found), batch_first=True)

    def _embed(self, ids: Tensor) -> Tensor:
        return self.core.embed_tokens(ids)

    def _upper(self, states: Tensor) -> Tensor:
        return self.core.norm(self._run(states, self.start, len(self.core.layers)))

    def _run(self, states: Tensor, start: int, end: int) -> Tensor:
        positions = torch.arange(states.shape[1], device=self.device)[None]
        turned = self.core.rotary_emb(states, position_ids=positions)
        for layer in self.core.layers[start:end]:
            run = partial(layer, attention_mask=None, position_embeddings=turned, position_ids=positions)
            again = self.recompute and torch.is_grad_enabled()
            states = checkpoint(run, states, use_reentrant=False) if again else run(states)
        return states


class Whole:
    """Any base, through its own forward: decoders that `Layers` does not fit, and encoder-decoders."""

    def __init__(self, model: Any, pad: int, *, decoder: bool) -> None:
        self.model, self.pad, self.decoder = model, pad, decoder
        self.device = next(model.parameters()).device
        self._keeps = decoder and "logits_to_keep" in signature(model.forward).parameters

    def __call__(self, batch: Sequence[Example]) -> Tensor:
        """The summed loss of the batch's target tokens."""
        if self.decoder:
            ids, mask = self._padded([[*e.prompt, *e.target] for e in batch])
            starts = [len(e.prompt) - 1 for e in batch]
            first = min(starts) if self._keeps else 0  # the head, often the largest product, is left out before
            kept = {"logits_to_keep": ids.shape[1] - first} if first else {}
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False, **kept).logits
            starts = [start - first for start in starts]
        else:
            ids, mask = self._padded([e.prompt for e in batch])
            begun, _ = self._padded([[self.model.config.decoder_start_token_id, *e.target[:-1]] for e in batch])
            logits = self.model(input_ids=ids, attention_mask=mask, decoder_input_ids=begun, use_cache=False).logits
            starts = [0] * len(batch)
        picked = [logits[row, s : s + len(e.target)] for row, (s, e) in enumerate(zip(starts, batch, strict=True))]
        labels = torch.tensor([i for e in batch for i in e.target], device=self.device)
        return F.cross_entropy(torch.cat(picked).float(), labels, reduction="sum")

    def _padded(self, rows: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        ids = torch.full((len(rows), max(map(len, rows))), self.pad)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        return ids.to(self.device), mask.to(self.device)


def loss_for(
    model: Any, start: int, pad: int, *, decoder: bool, recompute: bool = False, every: bool = False
) -> Loss:
    """`Layers` where it gives the model's own logits, checked on a probe; `Whole` for every other model.

    `Whole` too when `every` weight is trained: `Layers` gives embeddings and head no gradient. With `recompute` a
    layer's inner states are computed again in the backward pass instead of being kept.
    """
    if decoder and not every and fits(model, start):
        return Layers(model, start, recompute=recompute)
    if recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return Whole(model, pad, decoder=decoder)


def fits(model: Any, start: int) -> bool:
    """Whether running the layers of `model.layers` one by one equals the model.

    Leaves the model with attention as `Layers` wants it when it does, as it was when it does not.
    """
    config = model.config
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    if set(kinds) != {"full_attention"} or getattr(config, "sliding_window", None):
        return False
    if getattr(config, "attention_dropout", 0.0) or not hasattr(getattr(model, "model", None), "layers"):
        return False
    head = model.get_output_embeddings()
    if head is None or head.bias is not None:
        return False
    device = next(model.parameters()).device
    probe = torch.arange(48, device=device).view(2, 24) % config.vocab_size
    before = config._attn_implementation
    with torch.no_grad():
        wanted = model(input_ids=probe, use_cache=False).logits.float()
        try:
            if device.type == "cpu":  # elsewhere torch's own kernels are the fast ones
                attention.train_with(model)
            found = Layers(model, start).logits(probe).float()
        except (AttributeError, TypeError, ValueError, RuntimeError, KeyError):
            found = torch.full_like(wanted, torch.inf)
    # In bfloat16 torch's two ways of attending differ by 0.036 on SmolLM2 and this probe; a mask left out, by 0.79.
    tolerance = {torch.bfloat16: 0.1, torch.float16: 0.02}.get(next(model.parameters()).dtype, 1e-3)
    same = bool((found - wanted).norm() <= tolerance * wanted.norm())
    if not same:
        model.set_attn_implementation(before)
    return same


class _HeadLoss(torch.autograd.Function):
    """Summed cross-entropy of a frozen head, with its gradient made on the way: logits live for a few rows only."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, head: Tensor, labels: Tensor) -> Tensor:
        total = states.new_zeros((), dtype=torch.float32)
        gradient = torch.empty_like(states)
        for start in range(0, len(labels), HEAD_ROWS):
            rows, wanted = states[start : start + HEAD_ROWS], labels[start : start + HEAD_ROWS, None]
            logits = (rows @ head.t()).float()
            norm = logits.logsumexp(-1, keepdim=True)
            total += (norm - logits.gather(-1, wanted)).sum()
            shares = logits.sub_(norm).exp_().to(states.dtype)
            gradient[start : start + HEAD_ROWS] = shares @ head - head[wanted[:, 0]]
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0].to(gradient.dtype), None, None
