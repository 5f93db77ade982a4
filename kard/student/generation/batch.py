"""Rows for a writer, batch by batch: text, then the answer that it holds, or the likeliest option (section 3.4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

from kard.answers.parsing import answer_of
from kard.config import Decoding
from kard.records import LETTERS, Sample
from kard.student import prompt as render
from kard.student.batching import grouped
from kard.student.generation.decoder import Decoder, Prefilled
from kard.student.generation.encoder_decoder import EncodedPrompts, EncoderDecoder
from kard.student.generation.sampling import Sampling, Tell, nobody
from kard.student.tokens import Ids

if TYPE_CHECKING:
    from kard.student.generation.student import Student


@dataclass(frozen=True)
class Row:
    """A prompt, the options to answer with (as texts, none for free text), and the seed of what is drawn."""

    student: Student
    prompt: str
    options: Sequence[str]
    seed: int

    @cached_property
    def ids(self) -> Ids:
        """The prompt, cut to fit."""
        return self.student.prompt_ids(self.prompt)

    @cached_property
    def values(self) -> list[str]:
        """What the student writes for each option."""
        return self.student.values(self.options)

    @property
    def brief(self) -> bool:
        """Whether an answer alone is asked for, without a rationale."""
        return self.prompt.endswith(render.ANSWER)


def answered(
    writer: Decoder | EncoderDecoder,
    rows: Sequence[Row],
    decoding: Decoding,
    telling: Callable[[Sequence[Row]], Tell] | None = None,
) -> list[Sample]:
    """One sample a row, in the order of the rows; `telling` gives what a batch's rows are told to.

    A sample's milliseconds are its share of its batch.
    """
    samples: dict[int, Sample] = {}
    # Answers alone end after a few tokens: they do not share a batch with rationales.
    order = sorted(range(len(rows)), key=lambda i: (rows[i].brief, -len(rows[i].ids)))
    for places in _batches(order, rows, decoding, writer.room):
        start = time.perf_counter()
        batch = [rows[i] for i in places]
        made = _written(writer, batch, decoding, telling(batch) if telling else nobody)
        share = 1000 * (time.perf_counter() - start) / len(batch)
        samples.update((i, replace(s, milliseconds=share)) for i, s in zip(places, made, strict=True))
    return [samples[i] for i in range(len(rows))]


def _written(writer: Decoder | EncoderDecoder, rows: Sequence[Row], decoding: Decoding, tell: Tell) -> list[Sample]:
    """A sample for each row of a batch, all brief or none."""
    tokens, budget = rows[0].student.home.tokens, decoding.max_new_tokens
    if rows[0].brief and all(row.values for row in rows):
        budget = min(budget, max(len(tokens.choice(value)) for row in rows for value in row.values))
    drawing = Sampling(budget)
    if decoding.samples > 1:
        drawing = Sampling(budget, decoding.temperature, decoding.top_p, tuple(row.seed for row in rows))
    samples: list[Sample] = []
    whose, scored = [row.student.adapter for row in rows], any(row.options for row in rows)
    prompts = writer.read([row.ids for row in rows], tell, scored=scored, whose=whose)
    for row, out in zip(rows, prompts.generate(drawing), strict=True):
        text = row.student.kept(row.prompt, tokens.text(out))
        read = render.reading(row.prompt, text)
        ended = out[-1] == tokens.eos or render.ANSWER in read
        answer = answer_of(read, row.options) if row.options and ended else None
        samples.append(Sample(text, answer, False, len(row.ids), len(out)))
    unread = [i for i, s in enumerate(samples) if s.answer is None and rows[i].options]
    if unread:
        forced = _forced(prompts, rows, samples, unread)
        samples = [forced.get(i, s) for i, s in enumerate(samples)]
    return samples


def _forced(
    read: Prefilled | EncodedPrompts, batch: Sequence[Row], written: Sequence[Sample], places: Sequence[int]
) -> dict[int, Sample]:
    """The samples at these places of the batch with `Answer:` and their likeliest option appended."""
    rows, samples = [batch[i] for i in places], [written[i] for i in places]
    tokens = rows[0].student.home.tokens
    kept = ["" if r.brief else render.without_answer(s.text) for r, s in zip(rows, samples, strict=True)]
    cues = ["" if row.brief else f"\n{render.ANSWER}" for row in rows]
    begun = [[*tokens.ids(text), *tokens.ids(cue)] for text, cue in zip(kept, cues, strict=True)]
    choices = [[tokens.choice(value) for value in row.values] for row in rows]
    scores = read.score(places, begun, choices)
    made: dict[int, Sample] = {}
    for i, place in enumerate(places):
        best = max(range(len(scores[i])), key=scores[i].__getitem__)
        extra = len(tokens.ids(cues[i])) + sum(len(choice) for choice in choices[i])
        made[place] = Sample(
            f"{kept[i]}{cues[i]}{rows[i].values[best]}",
            LETTERS[best],
            True,
            samples[i].prompt_tokens,
            samples[i].completion_tokens + extra,
        )
    return made


def _batches(order: Sequence[int], rows: Sequence[Row], decoding: Decoding, room: int) -> list[list[int]]:
    """Consecutive slices of `order`, each of one kind, whose tokens, written ones too, have room at a time."""
    batches: list[list[int]] = []
    for _, kind in groupby(order, key=lambda i: rows[i].brief):
        own = list(kind)
        lengths = [len(rows[i].ids) + decoding.max_new_tokens for i in own]
        batches += [[own[place] for place in some] for some in grouped(lengths, room, decoding.batch)]
    return batches
