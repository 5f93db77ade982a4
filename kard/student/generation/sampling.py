"""What decoders and encoder-decoders share: the loop over tokens, random draws, and the scores of options.

Ids are lists, one for each row of a batch (B rows). Rows that have ended leave the batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from kard.models.hardware import cache_bytes
from kard.progress import timed
from kard.student.tokens import Ids, grouped

OPTIONS_PER_PASS = 64  # options scored in one pass, fewer where their prompts are long
TOP_K = 50  # likeliest tokens that a draw chooses from, as in the paper's own decoding
OnRows = Callable[[Tensor], None]
"""Callback that receives the batch index of every row in the next forward pass."""


def ignore_rows(rows: Tensor) -> None:
    """Do nothing."""
    del rows


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. `temperature` 0 is greedy; a row draws by its own seed, whatever its batch."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seeds: tuple[int, ...] = ()  # one for each row
    budgets: tuple[int, ...] = ()  # of each row, at most `max_new_tokens`; without any that is everyone's
    whole: Callable[[int, Ids], bool] | None = None  # whether nothing that a row could still write would count


class Rows(Protocol):
    """The rows of a batch that are still being written."""

    def logits(self) -> Tensor:
        """Return the logits of the next token, (rows, vocabulary)."""
        ...

    def append(self, tokens: Tensor) -> None:
        """Append these tokens, one to each row."""
        ...

    def select(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        ...


@timed("write texts")
def decode_loop(rows: Rows, count: int, eos: int, sampling: Sampling, on_rows: OnRows) -> list[Ids]:
    """Return the ids written for each of `count` rows; a row that ended by itself ends with eos."""
    written: list[Ids] = [[] for _ in range(count)]
    budgets = sampling.budgets or (sampling.max_new_tokens,) * count

    def ended(row: int) -> bool:
        ids = written[row]
        return bool(ids) and (
            ids[-1] == eos or len(ids) >= budgets[row] or (sampling.whole is not None and sampling.whole(row, ids))
        )

    remaining = list(range(count))
    generators = [torch.Generator().manual_seed(seed) for seed in sampling.seeds]
    on_rows(torch.tensor(remaining))
    for step in range(sampling.max_new_tokens):
        tokens = next_tokens(rows.logits(), sampling, [generators[row] for row in remaining] if generators else [])
        for row, token in zip(remaining, tokens.tolist(), strict=True):
            if not ended(row):
                written[row].append(token)
        unfinished = [i for i, row in enumerate(remaining) if not ended(row)]
        if not unfinished or step + 1 == sampling.max_new_tokens:
            break
        rows.append(tokens)
        # Selecting rows copies the cache: worth it once a quarter of the rows has ended.
        if len(unfinished) <= 0.75 * len(remaining):
            rows.select(torch.tensor(unfinished, device=tokens.device))
            remaining = [remaining[i] for i in unfinished]
            on_rows(torch.tensor(remaining))
    return written


def next_tokens(logits: Tensor, sampling: Sampling, generators: Sequence[torch.Generator]) -> Tensor:
    """Return the next token of each row. Random numbers come from the processor, the same on every device."""
    if sampling.temperature == 0:
        return logits.max(-1).indices  # four times as fast as argmax in bfloat16
    values, order = logits.float().topk(min(TOP_K, logits.shape[-1]))
    shares = (values / sampling.temperature).softmax(-1)
    before = shares.cumsum(-1) - shares
    cumulative = shares.masked_fill(before >= sampling.top_p, 0.0).cumsum(-1)  # the first token always stays
    uniform = torch.cat([torch.rand(1, generator=generator) for generator in generators]).to(cumulative.device)
    rank = (cumulative < uniform[:, None] * cumulative[:, -1:]).sum(-1, keepdim=True)
    return order.gather(-1, rank)[:, 0]


def score_in_passes(
    score: Callable[[Sequence[int], Sequence[Ids], Sequence[Sequence[Ids]]], list[list[float]]],
    rows: Sequence[int],
    prefixes: Sequence[Ids],
    choices: Sequence[Sequence[Ids]],
    *,
    prompt_length: int,
    max_tokens: int,
) -> list[list[float]]:
    """Return the scores of all rows' choices, by passes of as many options as fit into `max_tokens`."""
    length = prompt_length + max(map(len, prefixes)) + max(len(choice) for row in choices for choice in row)
    scores: list[list[float]] = []
    for group in grouped([len(row) for row in choices], min(OPTIONS_PER_PASS, max_tokens // length)):
        scores += score([rows[i] for i in group], [prefixes[i] for i in group], [choices[i] for i in group])
    return scores


def log_likelihood(logits: Tensor, labels: Tensor, label_mask: Tensor) -> Tensor:
    """Return the log-probability of the labels (B, T), summed where the mask is 1: (B,)."""
    each = logits.float().log_softmax(-1).gather(-1, labels[:, :, None])[:, :, 0]
    return (each * label_mask).sum(-1)


def by_row(scores: Tensor, choices: Sequence[Sequence[Ids]]) -> list[list[float]]:
    """Return the summed scores of all choices as means over their tokens, one list for each row.

    A sum has one more negative term for each token, so that a model that knows nothing would always take the
    shortest option (9 times of 9 with random weights).
    """
    values = iter(scores.tolist())
    return [[next(values) / len(choice) for choice in row] for row in choices]


def positions_of(mask: Tensor) -> Tensor:
    """Return the position of every token, counted from its row's first one."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def max_cached_tokens(model: Any) -> int:
    """Return the number of tokens whose keys and values, of all layers, fit into memory at a time."""
    config = model.config
    heads: int = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    layers = getattr(config, "num_decoder_layers", None) or config.num_hidden_layers
    return cache_bytes() // (2 * layers * groups * width * next(model.parameters()).element_size())


def cache_argument(model: Any) -> str:
    """Return the name of the model's argument for its cache; transformers 5.2x renamed `past_key_values`."""
    names = inspect.signature(model.forward).parameters
    return "cache" if "cache" in names else "past_key_values"
