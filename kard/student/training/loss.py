"""The loss of target tokens, for any base: by the cheapest way that gives the model's own logits.

An example is the ids of a prompt and of a target that ends with end-of-text. The loss is the sum over a batch's
target tokens. Whoever steps divides by their number, so that padding and batching change nothing.
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
from transformers import AttentionInterface

from kard.student.tokens import Ids, padded

CACHE_BYTES = 2 << 30  # of the lower half's states; what does not fit is computed again in each epoch
HEAD_ROWS = 256  # target tokens that the head multiplies at once: 25 MB of logits in bfloat16 for 49,152 words
CACHED_LOGITS = 400_000  # whose softmax is taken at once; with all 256 rows' it took as long as both products
BLOCK = 128  # queries that attend together; the scores of a block stay in the processor's caches
_CAUSAL = "kard_causal"


@dataclass(frozen=True, slots=True)
class Example:
    """The token ids of one training sequence. Equal sequences have the same `key`."""

    key: int
    prompt: Ids
    target: Ids
    cut: bool = False  # the prompt lost passage text

    def __len__(self) -> int:
        return len(self.prompt) + len(self.target)


class Loss(Protocol):
    """Summed cross-entropy of the target tokens of a batch."""

    def __call__(self, batch: Sequence[Example]) -> Tensor: ...


def loss_for(
    model: Any, start: int, pad: int, *, decoder: bool, recompute: bool = False, every: bool = False
) -> Loss:
    """Return a `LayerwiseLoss` if it gives the model's own logits, checked on a probe; else a `ModelLoss`.

    `start` is the first layer that is trained. If `every` weight is trained it is a `ModelLoss`, since the other
    gives embeddings and head no gradient. With `recompute` a layer's inner states are computed again in the
    backward pass instead of being kept.
    """
    if decoder and not every and layerwise_fits(model, start):
        return LayerwiseLoss(model, start, recompute=recompute)
    if recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return ModelLoss(model, pad, decoder=decoder)


class LayerwiseLoss:
    """The loss of decoders with their layers in `model.layers`.

    The frozen lower layers run once for an example; their states are cached. Padding is on the right, where no
    causal token looks, so no mask is needed. The head sees target tokens only.
    """

    def __init__(self, model: Any, start: int, *, cache_bytes: int = CACHE_BYTES, recompute: bool = False) -> None:
        self.model, self.core, self.start, self.recompute = model, model.model, start, recompute
        self.device = next(model.parameters()).device
        self._cache: dict[int, Tensor] = {}  # states that enter the layer `start`, by the key of an example
        self._free_bytes = cache_bytes

    def __call__(self, batch: Sequence[Example]) -> Tensor:
        """Return the summed loss of the batch's target tokens."""
        states = self._upper(self._lower(batch))
        rows = [i for i, e in enumerate(batch) for _ in e.target]
        positions = [len(e.prompt) - 1 + j for e in batch for j in range(len(e.target))]
        labels = torch.tensor([i for e in batch for i in e.target], device=self.device)
        head = self.model.get_output_embeddings()
        before = states[torch.tensor(rows, device=self.device), torch.tensor(positions, device=self.device)]
        return cast(Tensor, _HeadLoss.apply(before, head.weight, labels))

    def logits(self, ids: Tensor) -> Tensor:
        """Return the logits of every position of (B, T) ids."""
        with torch.no_grad():
            return self.model.get_output_embeddings()(self._upper(self._run(self._embed(ids), 0, self.start)))

    def _lower(self, batch: Sequence[Example]) -> Tensor:
        """Return the states that enter the upper layers, (B, longest, D)."""
        missing = [e for e in batch if e.key not in self._cache]
        computed: dict[int, Tensor] = {}
        if missing:
            ids, _ = padded([[*e.prompt, *e.target] for e in missing], 0, self.device)
            with torch.no_grad():
                states = self._run(self._embed(ids), 0, self.start)
            for row, e in enumerate(missing):
                computed[e.key] = of_example = states[row, : len(e)].clone()
                if self.start and of_example.nbytes <= self._free_bytes:
                    self._cache[e.key] = of_example
                    self._free_bytes -= of_example.nbytes
        of_batch = [self._cache.get(e.key, computed.get(e.key)) for e in batch]
        return torch.nn.utils.rnn.pad_sequence(cast("list[Tensor]", of_batch), batch_first=True)

    def _embed(self, ids: Tensor) -> Tensor:
        return self.core.embed_tokens(ids)

    def _upper(self, states: Tensor) -> Tensor:
        return self.core.norm(self._run(states, self.start, len(self.core.layers)))

    def _run(self, states: Tensor, start: int, end: int) -> Tensor:
        positions = torch.arange(states.shape[1], device=self.device)[None]
        rotary = self.core.rotary_emb(states, position_ids=positions)
        for layer in self.core.layers[start:end]:
            run = partial(layer, attention_mask=None, position_embeddings=rotary, position_ids=positions)
            again = self.recompute and torch.is_grad_enabled()
            states = checkpoint(run, states, use_reentrant=False) if again else run(states)
        return states


class ModelLoss:
    """The loss by a base's own forward: of other decoders, and of encoder-decoders."""

    def __init__(self, model: Any, pad: int, *, decoder: bool) -> None:
        self.model, self.pad, self.decoder = model, pad, decoder
        self.device = next(model.parameters()).device
        self._keeps_logits = decoder and "logits_to_keep" in signature(model.forward).parameters

    def __call__(self, batch: Sequence[Example]) -> Tensor:
        """Return the summed loss of the batch's target tokens."""
        if self.decoder:
            ids, mask = self._padded([[*e.prompt, *e.target] for e in batch])
            starts = [len(e.prompt) - 1 for e in batch]
            first = (
                min(starts) if self._keeps_logits else 0
            )  # the head, often the largest product, is left out before
            keep = {"logits_to_keep": ids.shape[1] - first} if first else {}
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False, **keep).logits
            starts = [start - first for start in starts]
        else:
            ids, mask = self._padded([e.prompt for e in batch])
            inputs, _ = self._padded([[self.model.config.decoder_start_token_id, *e.target[:-1]] for e in batch])
            logits = self.model(
                input_ids=ids, attention_mask=mask, decoder_input_ids=inputs, use_cache=False
            ).logits
            starts = [0] * len(batch)
        of_targets = [
            logits[row, s : s + len(e.target)] for row, (s, e) in enumerate(zip(starts, batch, strict=True))
        ]
        labels = torch.tensor([i for e in batch for i in e.target], device=self.device)
        return F.cross_entropy(torch.cat(of_targets).float(), labels, reduction="sum")

    def _padded(self, rows: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        return padded(rows, self.pad, self.device)


def layerwise_fits(model: Any, start: int) -> bool:
    """Return whether running the layers of `model.layers` one by one gives the model's own logits.

    If so, the model keeps the attention that `LayerwiseLoss` uses; if not, it is left as it was.
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
    attention = config._attn_implementation
    with torch.no_grad():
        expected = model(input_ids=probe, use_cache=False).logits.float()
        try:
            if device.type == "cpu":  # elsewhere torch's own kernels are the fast ones
                use_causal_attention(model)
            logits = LayerwiseLoss(model, start).logits(probe).float()
        except (AttributeError, TypeError, ValueError, RuntimeError, KeyError):
            logits = torch.full_like(expected, torch.inf)
    # In bfloat16 torch's two ways of attending differ by 0.036 on SmolLM2 and this probe; a mask left out, by 0.79.
    tolerance = {torch.bfloat16: 0.1, torch.float16: 0.02}.get(next(model.parameters()).dtype, 1e-3)
    equal = bool((logits - expected).norm() <= tolerance * expected.norm())
    if not equal:
        model.set_attn_implementation(attention)
    return equal


def use_causal_attention(model: Any) -> None:
    """Let the model attend causally and without a mask, by plain products.

    In bfloat16 on one thread a layer of SmolLM2-135M over 8 x 200 tokens, forward and backward, takes 51 ms by
    torch's fused attention and 19 ms in this way. A step over 8 x 560 tokens takes 5.6 CPU s without blocks and
    4.3 with them.
    """
    AttentionInterface.register(_CAUSAL, _causal)
    model.set_attn_implementation(_CAUSAL)


def _causal(
    _module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend causally with (B, heads, T, D) queries over (B, groups, T, D) keys and values.

    Raises ValueError for a mask, which the model's own forward makes.
    """
    if mask is not None:
        raise ValueError("causal attention takes no mask")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return cast(Tensor, CausalAttention.apply(query * scale, key, value)).transpose(1, 2), None


class CausalAttention(torch.autograd.Function):
    """Causal attention of (B, heads, T, D) scaled queries: blocks of queries over the keys up to their end.

    Two fifths of the products over later keys are left out, and only a block's own square needs a mask. The heads
    of a group are laid one after the other, so that keys and values are not copied.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, heads, length, width = query.shape
        groups = key.shape[1]
        queries = query.reshape(batch * groups, heads // groups, length, width)
        keys = key.reshape(batch * groups, length, width)
        values = value.reshape(batch * groups, length, width)
        out = torch.empty_like(queries)
        future = torch.ones(BLOCK, BLOCK, dtype=torch.bool, device=query.device).triu_(1)
        weights: list[Tensor] = []
        for start in range(0, length, BLOCK):
            end = min(start + BLOCK, length)
            scores = queries[:, :, start:end].flatten(1, 2) @ keys[:, :end].transpose(1, 2)
            square = scores.view(batch * groups, -1, end - start, end)[..., start:]
            square.masked_fill_(future[: end - start, : end - start], torch.finfo(scores.dtype).min)
            weights.append(scores.softmax(-1))
            out[:, :, start:end] = (weights[-1] @ values[:, :end]).unflatten(1, (-1, end - start))
        ctx.save_for_backward(queries, keys, values, *weights)
        return out.view(batch, heads, length, width)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        queries, keys, values, *weights = ctx.saved_tensors
        shape = grads[0].shape
        gradient = grads[0].reshape(queries.shape)
        of_queries = torch.empty_like(queries)
        of_keys, of_values = torch.zeros_like(keys), torch.zeros_like(values)
        for block, start in zip(weights, range(0, shape[2], BLOCK), strict=True):
            end = min(start + BLOCK, shape[2])
            of_block = gradient[:, :, start:end].flatten(1, 2)
            of_values[:, :end].baddbmm_(block.transpose(1, 2), of_block)
            of_weights = of_block @ values[:, :end].transpose(1, 2)
            of_scores = torch.ops.aten._softmax_backward_data(of_weights, block, -1, block.dtype)
            of_queries[:, :, start:end] = (of_scores @ keys[:, :end]).unflatten(1, (-1, end - start))
            of_keys[:, :end].baddbmm_(of_scores.transpose(1, 2), queries[:, :, start:end].flatten(1, 2))
        of_group = (shape[0], keys.shape[0] // shape[0], *keys.shape[1:])
        return of_queries.view(shape), of_keys.view(of_group), of_values.view(of_group)


class _HeadLoss(torch.autograd.Function):
    """Summed cross-entropy of a frozen head. Its gradient is made on the way, so few rows have logits at a time."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, head: Tensor, labels: Tensor) -> Tensor:
        total = states.new_zeros((), dtype=torch.float32)
        gradient = torch.empty_like(states)
        rows_at_once = max(1, CACHED_LOGITS // len(head))
        for start in range(0, len(labels), HEAD_ROWS):
            of_rows = labels[start : start + HEAD_ROWS, None]
            shares = states[start : start + HEAD_ROWS] @ head.t()
            for logits, row_labels in zip(shares.split(rows_at_once), of_rows.split(rows_at_once), strict=True):
                log_shares = logits.float().log_softmax(-1)
                total -= log_shares.gather(-1, row_labels).sum()
                logits.copy_(log_shares.exp_())
            gradient[start : start + HEAD_ROWS] = shares @ head - head[of_rows[:, 0]]
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0].to(gradient.dtype), None, None
