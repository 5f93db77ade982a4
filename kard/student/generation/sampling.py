"""What decoders and encoder-decoders share when they write: the loop over tokens, draws, padding and scores.

Ids are lists, one a row (B rows); rows that have ended leave the batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from kard.models.hardware import cache_bytes
from kard.student.batching import grouped
from kard.student.tokens import Ids


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. `temperature` 0 is greedy; a row draws by its own seed, whatever its batch."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seeds: tuple[int, ...] = ()  # one a row


Tell = Callable[[Tensor], None]
"""Is told, before the first pass and when rows change, which row of the batch each row of a pass belongs to."""
SCORED = 64  # options in one pass, fewer where their prompts are long
TOP_K = 50  # likeliest tokens that a draw chooses from, as in the paper's own decoding


def nobody(rows: Tensor) -> None:
    """Is told and does nothing."""
    del rows


class State(Protocol):
    """The rows of a batch that are still being written."""

    def logits(self) -> Tensor:
        """Logits of the next token, (rows, vocabulary)."""
        ...

    def append(self, tokens: Tensor) -> None:
        """Go on with these tokens, one a row."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        ...


def decode_loop(state: State, count: int, eos: int, drawing: Sampling, tell: Tell) -> list[Ids]:
    made: list[Ids] = [[] for _ in range(count)]
    rows = list(range(count))
    draws = [torch.Generator().manual_seed(seed) for seed in drawing.seeds]
    tell(torch.tensor(rows))
    for step in range(drawing.max_new_tokens):
        tokens = next_tokens(state.logits(), drawing, [draws[row] for row in rows] if draws else [])
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if not made[row] or made[row][-1] != eos:
                made[row].append(token)
        going = [place for place, row in enumerate(rows) if made[row][-1] != eos]
        if not going or step + 1 == drawing.max_new_tokens:
            break
        state.append(tokens)
        # Selecting rows copies the cache: worth it once a quarter of the rows has ended.
        if len(going) <= 0.75 * len(rows):
            state.keep(torch.tensor(going, device=tokens.device))
            rows = [rows[place] for place in going]
            tell(torch.tensor(rows))
    return made


def in_passes(
    score: Callable[[Sequence[int], Sequence[Ids], Sequence[Sequence[Ids]]], list[list[float]]],
    rows: Sequence[int],
    begun: Sequence[Ids],
    choices: Sequence[Sequence[Ids]],
    *,
    read: int,
    room: int,
) -> list[list[float]]:
    """The scores of all rows, so many options a pass that their tokens have room, `read` of each in the prompt."""
    length = read + max(map(len, begun)) + max(len(choice) for row in choices for choice in row)
    scores: list[list[float]] = []
    for some in grouped([len(row) for row in choices], min(SCORED, room // length)):
        scores += score([rows[i] for i in some], [begun[i] for i in some], [choices[i] for i in some])
    return scores


def next_tokens(logits: Tensor, drawing: Sampling, draws: Sequence[torch.Generator]) -> Tensor:
    """The next token of each row. The random numbers are drawn on the processor, the same on every device."""
    if drawing.temperature == 0:
        return logits.argmax(-1)
    values, order = logits.float().topk(min(TOP_K, logits.shape[-1]))
    likely = (values / drawing.temperature).softmax(-1)
    before = likely.cumsum(-1) - likely
    kept = likely.masked_fill(before >= drawing.top_p, 0.0).cumsum(-1)  # the first token always stays
    drawn = torch.cat([torch.rand(1, generator=draw) for draw in draws]).to(kept.device)
    place = (kept < drawn[:, None] * kept[:, -1:]).sum(-1, keepdim=True)
    return order.gather(-1, place)[:, 0]


def padded(rows: Sequence[Ids], pad: int, device: torch.device, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Ids and mask of shape (B, longest). The mask is of lengths: a pad id may be an eos that counts."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[i, place] = torch.tensor(row)
        mask[i, place] = 1
    return ids.to(device), mask.to(device)


def positions_of(mask: Tensor) -> Tensor:
    return (mask.cumsum(-1) - 1).clamp(min=0)


def picked(logits: Tensor, wanted: Tensor, counted: Tensor) -> Tensor:
    """Log-probability of the wanted ids (B, T), summed where counted: (B,)."""
    each = logits.float().log_softmax(-1).gather(-1, wanted[:, :, None])[:, :, 0]
    return (each * counted).sum(-1)


def by_row(total: Tensor, choices: Sequence[Sequence[Ids]]) -> list[list[float]]:
    values = iter(total.tolist())
    return [[next(values) for _ in row] for row in choices]


def room_of(model: Any) -> int:
    """Tokens whose keys and values, of all layers, may be held at a time."""
    config = model.config
    heads: int = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    layers = getattr(config, "num_decoder_layers", None) or config.num_hidden_layers
    return cache_bytes() // (2 * layers * groups * width * next(model.parameters()).element_size())


def cache_name(model: Any) -> str:
    """What the model calls its cache; transformers changed the name from `past_key_values` in 5.2x."""
    names = inspect.signature(model.forward).parameters
    return "cache" if "cache" in names else "past_key_values"
