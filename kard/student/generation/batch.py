"""Samples for rows of prompts, batch by batch: a text, then its answer or the likeliest option (section 3.4).

Under one adapter, merged into the weights (`AdapterSwitcher`), a pass costs what it costs without one, but it
serves that student alone. And a pass of a few rows takes nearly as long as one of many, because most of it is
reading the weights. So students with few rows each share passes over the bare base, where every row gets the
low-rank product of its own adapter (`MultiAdapter`). peft's `adapter_names` does this for a model that peft wraps;
here rows leave the batch as they end, and the base stays as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kard.answers.parsing import answer_of
from kard.config import Decoding
from kard.models.adapters import AdapterCache, LowRank, is_whole
from kard.records import LETTERS, Sample
from kard.student.generation.decoder import Decoder
from kard.student.generation.encoder_decoder import EncoderDecoder
from kard.student.generation.sampling import OnRows, Sampling, ignore_rows
from kard.student.generation.student import LoadedBase, Row
from kard.student.prompt import ANSWER, before_answer, with_answer_cue
from kard.student.tokens import Ids, grouped

_CUE = f"\n{ANSWER}"  # of a reasoning student's answer
MAX_SHARED_ROWS = 16  # of one student; with more rows it gets passes of its own
MAX_ADAPTERS = 8  # in one pass: each adds 4% to its products (rank 16 in SmolLM2-135M)


def generate_rows(rows: Sequence[Row], decoding: Decoding) -> list[Sample]:
    """Return one sample for each row, in their order, for any students of one base.

    Greedy if `decoding.samples` is 1, else drawn by the row's seed. A row with options always gets an answer: where
    none can be read, `Answer:` and the likeliest option are appended. A sample's milliseconds are its share of its
    batch.
    """
    if not rows:
        return []
    indices: dict[Path | None, list[int]] = {}
    for i, row in enumerate(rows):
        indices.setdefault(row.student.adapter, []).append(i)
    small = [adapter for adapter, of_adapter in indices.items() if len(of_adapter) <= MAX_SHARED_ROWS]
    base = cast(LoadedBase, rows[0].student.base)
    samples: dict[int, Sample] = {}
    with base.lock:
        shareable = _shareable(small, base.adapters) if len(indices) > 1 else {}
        shared = [list(shareable)[i : i + MAX_ADAPTERS] for i in range(0, len(shareable), MAX_ADAPTERS)]
        for adapters in [*([adapter] for adapter in indices if adapter not in shareable), *shared]:
            members = [i for adapter in adapters for i in indices[adapter]]
            group = [rows[i] for i in members]
            if len(adapters) == 1:
                base.activate(adapters[0])
                generated = generate_batches(base.generator, group, decoding)
            else:
                base.activate(None)
                model = base.generator.model
                products = MultiAdapter({a: shareable[a] for a in adapters}, next(model.parameters()))
                with products.attached(model):
                    generated = generate_batches(base.generator, group, decoding, products.begin_batch)
            samples.update(zip(members, generated, strict=True))
    return [samples[i] for i in range(len(rows))]


def _shareable(adapters: Sequence[Path | None], cache: AdapterCache) -> dict[Path | None, LowRank | None]:
    """Return the adapters that can be added to a layer's output: no whole weights, and no DoRA, which is no sum."""
    low_rank = {a: cache.read(a) if a else None for a in adapters if not is_whole(a)}
    return {a: matrices for a, matrices in low_rank.items() if matrices is None or not matrices.merged_only}


def generate_batches(
    generator: Decoder | EncoderDecoder,
    rows: Sequence[Row],
    decoding: Decoding,
    begin_batch: Callable[[Sequence[Row]], OnRows] | None = None,
) -> list[Sample]:
    """Return one sample for each row, under what is active. `begin_batch` returns a batch's callback."""
    samples: dict[int, Sample] = {}
    # Answers alone end after a few tokens, so they do not share a batch with rationales.
    order = sorted(range(len(rows)), key=lambda i: (rows[i].answer_only, -len(rows[i].prompt_ids)))
    for indices in _batches(order, rows, decoding, generator.max_tokens):
        start = time.perf_counter()
        batch = [rows[i] for i in indices]
        generated = _generate(generator, batch, decoding, begin_batch(batch) if begin_batch else ignore_rows)
        share = 1000 * (time.perf_counter() - start) / len(batch)
        samples.update((i, replace(s, milliseconds=share)) for i, s in zip(indices, generated, strict=True))
    return [samples[i] for i in range(len(rows))]


def _batches(order: Sequence[int], rows: Sequence[Row], decoding: Decoding, max_tokens: int) -> list[list[int]]:
    """Return slices of `order`, each of one kind of prompt, whose tokens (generated ones too) fit at a time."""
    batches: list[list[int]] = []
    for _, kind in groupby(order, key=lambda i: rows[i].answer_only):
        indices = list(kind)
        lengths = [len(rows[i].prompt_ids) + decoding.max_new_tokens for i in indices]
        batches += [[indices[i] for i in group] for group in grouped(lengths, max_tokens, decoding.batch)]
    return batches


def _generate(
    generator: Decoder | EncoderDecoder, batch: Sequence[Row], decoding: Decoding, on_rows: OnRows
) -> list[Sample]:
    """Return a sample for each row of a batch, which asks for answers only or for none only."""
    tokens, sampling = batch[0].student.base.tokens, sampling_of(batch, decoding)
    owners, scored = [row.student.adapter for row in batch], any(row.options for row in batch)
    prompts = generator.read([row.prompt_ids for row in batch], on_rows, scored=scored, owners=owners)
    written = [Written(tokens.text(ids), len(ids), ids[-1] == tokens.eos) for ids in prompts.generate(sampling)]
    return read_samples(batch, written, decoding, prompts.score)


def sampling_of(batch: Sequence[Row], decoding: Decoding) -> Sampling:
    """Return how the rows of a batch are written."""
    tokens, max_new_tokens = batch[0].student.base.tokens, decoding.max_new_tokens
    budgets = tuple(min(row.budget or max_new_tokens, max_new_tokens) for row in batch)
    if batch[0].answer_only and all(row.option_texts for row in batch):
        # Room for every option and no more, even where the student was taught shorter ones.
        max_new_tokens = max(len(tokens.choice(text)) for row in batch for text in row.option_texts)
        budgets = ()

    def whole(i: int, ids: Ids) -> bool:
        row, text = batch[i], tokens.text(ids)
        return not row.options and row.counting(text) != text

    until = None if all(row.options or row.ids is not None for row in batch) else whole
    if decoding.samples == 1:
        return Sampling(max_new_tokens, budgets=budgets, whole=until)
    seeds = tuple(row.seed for row in batch)
    return Sampling(max_new_tokens, decoding.temperature, decoding.top_p, seeds, budgets, until)


@dataclass(frozen=True, slots=True)
class Written:
    """What was written after a prompt: its text, its tokens with end-of-text, and whether it ended by that."""

    text: str
    tokens: int
    ended: bool


Score = Callable[[Sequence[int], Sequence[Ids], Sequence[Sequence[Ids]]], list[list[float]]]
"""Returns the mean log-probability of each choice's tokens after a row's prompt and what follows it."""


def read_samples(
    batch: Sequence[Row], written: Sequence[Written], decoding: Decoding, score: Score
) -> list[Sample]:
    """Return a sample for each row and what was written for it, with answers forced where none can be read.

    A row whose options get no score keeps what it has.
    """
    samples: list[Sample] = []
    ran_out: list[bool] = []  # the text may go on, but no token was left
    for row, whole in zip(batch, written, strict=True):
        text = row.counting(whole.text)
        no_token_left = not whole.ended and text == whole.text
        ran_out.append(no_token_left and not (row.answer_only and row.options))
        with_cue = with_answer_cue(row.prompt, text)
        ended = whole.ended or ANSWER in with_cue
        read = ended or not row.options
        answer = answer_of(with_cue, row.options, cut=ran_out[-1]) if read else None
        unanswered = not row.options and (answer is None or row.ids is not None)
        forced = "budget" if ran_out[-1] and unanswered else None
        samples.append(Sample(text, answer, forced, len(row.prompt_ids), whole.tokens, cut=row.fitted[1]))
    with_options = [i for i, row in enumerate(batch) if row.options]
    scored = [i for i in with_options if samples[i].answer is None or decoding.decide != "written"]
    if scored:
        shares = _option_shares(score, batch, samples, scored)
        for i, of_options in zip(scored, shares, strict=True):
            if of_options:
                samples[i] = _chosen(batch[i], samples[i], of_options, ran_out[i], decoding)
    return samples


def _option_shares(
    score: Score, batch: Sequence[Row], samples: Sequence[Sample], indices: Sequence[int]
) -> list[tuple[float, ...]]:
    """Return the share of each option after what these rows wrote before `Answer:`, one tuple for each index.

    Shares are the softmax of the options' mean log-probabilities of a token.
    """
    rows = [batch[i] for i in indices]
    tokens = rows[0].student.base.tokens
    choices = [[tokens.choice(text) for text in row.option_texts] for row in rows]
    cues = [[] if row.answer_only else tokens.ids(_CUE) for row in rows]
    written = [
        [*tokens.ids("" if row.answer_only else before_answer(samples[i].text)), *cue]
        for i, row, cue in zip(indices, rows, cues, strict=True)
    ]
    scores = score(indices, written, choices)  # rows may have other numbers of options
    return [tuple(torch.tensor(row).softmax(0).tolist()) for row in scores]


def _chosen(row: Row, sample: Sample, shares: tuple[float, ...], ran_out: bool, decoding: Decoding) -> Sample:
    """Return the sample with its likeliest option as the answer; appended to the text if that gives none."""
    tokens = row.student.base.tokens
    best = shares.index(max(shares))
    cue = "" if row.answer_only else _CUE
    extra_tokens = len(tokens.ids(cue)) + sum(len(tokens.choice(text)) for text in row.option_texts)
    chosen = replace(
        sample,
        answer=LETTERS[best],
        shares=shares if decoding.decide != "written" else (),
        completion_tokens=sample.completion_tokens + extra_tokens,
    )
    if sample.answer is not None:
        return chosen
    text = "" if row.answer_only else before_answer(sample.text)
    return replace(chosen, text=f"{text}{cue}{row.option_texts[best]}", forced="budget" if ran_out else "unread")


class MultiAdapter:
    """The low-rank products of several adapters beside a model's own layers; an adapter None adds nothing."""

    def __init__(self, adapters: Mapping[Path | None, LowRank | None], like: Tensor) -> None:
        self._numbers = {adapter: number for number, adapter in enumerate(adapters)}
        self._layers: dict[str, tuple[Tensor, Tensor, Tensor]] = {}  # A, B, and the adapter's number of each rank
        # Adapter numbers of the batch's rows, and of the rows in the next pass.
        self._batch = self._pass = torch.zeros(0, dtype=torch.long, device=like.device)
        for name in dict.fromkeys(name for low_rank in adapters.values() if low_rank for name in low_rank.down):
            parts = [
                (i, low_rank) for i, low_rank in enumerate(adapters.values()) if low_rank and name in low_rank.down
            ]
            down = torch.cat([low_rank.down[name] for _, low_rank in parts]).to(like)
            up = torch.cat([low_rank.scale * low_rank.up[name].float() for _, low_rank in parts], dim=1).to(like)
            numbers = torch.tensor([i for i, low_rank in parts for _ in low_rank.down[name]], device=like.device)
            self._layers[name] = down, up, numbers

    def begin_batch(self, batch: Sequence[Row]) -> OnRows:
        """Return the callback for this batch's passes."""
        numbers = [self._numbers[row.student.adapter] for row in batch]
        self._batch = self._pass = torch.tensor(numbers, device=self._batch.device)
        return self._on_rows

    @contextmanager
    def attached(self, model: nn.Module) -> Generator[None]:
        """Add the products to the model's layers."""
        layers = {name: model.get_submodule(name) for name in self._layers}
        hooks = [layer.register_forward_hook(partial(self._add, name)) for name, layer in layers.items()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _on_rows(self, rows: Tensor) -> None:
        self._pass = self._batch[rows.to(self._batch.device)]

    def _add(self, name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return the layer's output plus each row's product. The input is (B, T, in), or (B x T, in) in OPT."""
        del layer
        down, up, numbers = self._layers[name]
        x: Tensor = inputs[0]
        mask = (numbers == self._pass[:, None]).to(x.dtype)  # (B, ranks of all adapters)
        mask = mask[:, None] if x.dim() == 3 else mask.repeat_interleave(len(x) // len(mask), dim=0)
        return output + F.linear(F.linear(x, down) * mask, up)
