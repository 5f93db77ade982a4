"""Students that answer: one resident base model, any number of adapters, batched generation (section 3.4)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from sqlite_utils import Database

from kard import bases
from kard.adapters import Worn, checked
from kard.bases import Base
from kard.config import Decoding, Lora, StudentTraining
from kard.errors import Missing, NoBase
from kard.evaluation.conclusion import answer_of
from kard.machine import device, dtype, keep_memory
from kard.records import LETTERS, Sample
from kard.student import render
from kard.student.decode import Decoder, Drawing, EncoderDecoder
from kard.student.tokens import Ids, Tokens


def load_model(base: Base, precision: torch.dtype) -> Any:
    """The base model on this machine's device, in evaluation mode. Raises NoBase for an encoder."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
    from transformers.utils import logging

    if base.kind == "encoder":
        raise NoBase(f"{base.spec} is an encoder and writes no text; choose a decoder or an encoder-decoder")
    auto = AutoModelForCausalLM if base.kind == "decoder" else AutoModelForSeq2SeqLM
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model = auto.from_pretrained(base.folder, dtype=precision)
    finally:
        if bars:
            logging.enable_progress_bar()
    return cast(Any, model).to(device()).eval()


def parameters_without_embedding(model: Any) -> int:
    """Parameters that multiply each token: all but the input embedding's."""
    embedding = model.get_input_embeddings().weight
    return sum(p.numel() for p in model.parameters() if p is not embedding)


class Resident:
    """A base model in memory, under one adapter at a time."""

    def __init__(self, model: Any, tokens: Tokens, *, decoder: bool) -> None:
        keep_memory()
        self.tokens = tokens
        self.lock = threading.RLock()  # held from `wear` to the end of what is generated under it
        self.parameters = parameters_without_embedding(model)
        self._worn = Worn(model)
        make = Decoder if decoder else EncoderDecoder
        self.writer: Decoder | EncoderDecoder = make(model, tokens.eos, tokens.pad)

    def wear(self, adapter: Path | None) -> None:
        """Change to another adapter, None for the base alone. The base is not loaded again."""
        self._worn.wear(adapter)


@lru_cache(maxsize=1)
def resident(base: Base) -> Resident:
    """The base in memory: the last one that was asked for stays there, for all of its students."""
    decoder = base.kind == "decoder"
    return Resident(load_model(base, dtype()), Tokens.load(base.folder, decoder=decoder), decoder=decoder)


class Student:
    """One adapter over a resident base; without adapter, the base itself."""

    def __init__(
        self, home: Resident, adapter: Path | None, settings: StudentTraining, *, name: str = "base"
    ) -> None:
        self.home, self.adapter, self.settings, self.name = home, adapter, settings, name

    @classmethod
    def load(cls, db: Database, student_id: str, adapters: Path) -> Student:
        """The student of that id.

        Raises Missing when it was not trained or its adapter is not what was trained, NoBase when its base
        cannot be had or is another one now.
        """
        found = list(db.query("select * from students where id = ?", [student_id]))
        if not found:
            raise Missing(f"no student {student_id}; train one with: kard train student TASK")
        row = found[0]
        prompted = not row["path"]  # the base itself, by a prompt
        adapter = None if prompted else checked(adapters / Path(row["path"]).name, row["sha256"], row["task"])
        base = bases.resolve(row["base"])
        if base.sha256 != row["base_sha256"]:
            raise NoBase(
                f"{row['base']} has other weights than student {student_id} was trained on; "
                f"train it again with: kard train student {row['task']}"
            )
        if prompted:
            from kard.student.prompted import load

            return load(resident(base), row)
        return cls(resident(base), adapter, settings_of(row["settings"]), name=student_id)

    def kept(self, prompt: str, text: str) -> str:
        """What counts of a written text: all of it, since a trained student ends its text itself."""
        del prompt
        return text

    def flops(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Floating-point operations of one sample: 2 x parameters (without embedding) x tokens."""
        return 2.0 * self.home.parameters * (prompt_tokens + completion_tokens)

    def generate(
        self,
        prompts: Sequence[str],
        choices: Sequence[Sequence[str]] | None,
        decoding: Decoding,
        *,
        seeds: Sequence[int] | None = None,
    ) -> list[Sample]:
        """One sample a prompt, in the order of the prompts. `choices` are each prompt's options, as texts.

        Greedy when `decoding.samples` is 1, else drawn, by the row's seed. With choices there is always an answer:
        where none can be read, `Answer:` is appended and the likeliest option is taken. A sample's milliseconds
        are its share of its batch.
        """
        ids = [self.home.tokens.prompt(prompt, self.settings.max_length) for prompt in prompts]
        options = choices if choices is not None else [()] * len(prompts)
        seeds = seeds if seeds is not None else range(len(prompts))
        samples: dict[int, Sample] = {}
        # Answers alone end after a few tokens: they do not share a batch with rationales.
        order = sorted(range(len(ids)), key=lambda i: (prompts[i].endswith(render.ANSWER), -len(ids[i])))
        with self.home.lock:
            self.home.wear(self.adapter)
            for rows in _batches(order, [p.endswith(render.ANSWER) for p in prompts], decoding.batch):
                start = time.perf_counter()
                batch = _Batch(
                    [prompts[i] for i in rows],
                    [ids[i] for i in rows],
                    [options[i] for i in rows],
                    [seeds[i] for i in rows],
                )
                made = self._answers(batch, decoding)
                share = 1000 * (time.perf_counter() - start) / len(rows)
                samples.update((i, replace(s, milliseconds=share)) for i, s in zip(rows, made, strict=True))
        return [samples[i] for i in range(len(prompts))]

    def _answers(self, batch: _Batch, decoding: Decoding) -> list[Sample]:
        tokens, budget = self.home.tokens, decoding.max_new_tokens
        values = [self._values(options) for options in batch.options]
        if batch.prompts[0].endswith(render.ANSWER) and all(values):
            budget = min(budget, max(len(tokens.choice(value)) for row in values for value in row))
        written = self.home.writer.generate(batch.ids, _drawing(decoding, budget, batch.seeds))
        samples: list[Sample] = []
        for prompt, ids, options, out in zip(batch.prompts, batch.ids, batch.options, written, strict=True):
            text = self.kept(prompt, tokens.text(out))
            read = render.reading(prompt, text)
            ended = out[-1] == tokens.eos or render.ANSWER in read
            answer = answer_of(read, options) if options and ended else None
            samples.append(Sample(text, answer, False, len(ids), len(out)))
        unread = [i for i, s in enumerate(samples) if s.answer is None and batch.options[i]]
        if unread:
            forced = self._forced(
                [batch.prompts[i] for i in unread],
                [batch.ids[i] for i in unread],
                [samples[i] for i in unread],
                [values[i] for i in unread],
            )
            samples = [forced[unread.index(i)] if i in unread else s for i, s in enumerate(samples)]
        return samples

    def _forced(
        self, prompts: Sequence[str], ids: Sequence[Ids], samples: Sequence[Sample], values: Sequence[Sequence[str]]
    ) -> list[Sample]:
        """The samples with `Answer:` and their likeliest option appended."""
        tokens, writer = self.home.tokens, self.home.writer
        kept = [
            "" if p.endswith(render.ANSWER) else render.without_answer(s.text)
            for p, s in zip(prompts, samples, strict=True)
        ]
        cues = ["" if p.endswith(render.ANSWER) else f"\n{render.ANSWER}" for p in prompts]
        begun = [[*tokens.ids(text), *tokens.ids(cue)] for text, cue in zip(kept, cues, strict=True)]
        choices = [[tokens.choice(value) for value in row] for row in values]
        if isinstance(writer, Decoder):
            scores = writer.score([[*i, *b] for i, b in zip(ids, begun, strict=True)], choices)
        else:
            scores = writer.score(list(zip(ids, begun, strict=True)), choices)
        made: list[Sample] = []
        for sample, text, cue, row, score, choice in zip(samples, kept, cues, values, scores, choices, strict=True):
            best = max(range(len(score)), key=score.__getitem__)
            extra = len(tokens.ids(cue)) + sum(len(c) for c in choice)
            made.append(
                Sample(
                    f"{text}{cue}{row[best]}",
                    LETTERS[best],
                    True,
                    sample.prompt_tokens,
                    sample.completion_tokens + extra,
                )
            )
        return made

    def _values(self, options: Sequence[str]) -> list[str]:
        """What this student writes after `Answer:` for each option."""
        return [f" {answer_form(options, letter, self.settings)}" for letter in LETTERS[: len(options)]]


class _Batch:
    def __init__(
        self, prompts: Sequence[str], ids: Sequence[Ids], options: Sequence[Sequence[str]], seeds: Sequence[int]
    ) -> None:
        self.prompts, self.ids, self.options, self.seeds = prompts, ids, options, seeds


def answer_form(options: Sequence[str], letter: str, settings: StudentTraining) -> str:
    """What stands after `Answer:` for the option of that letter: its text or the letter."""
    return letter if settings.answer == "letter" else render.line(options[LETTERS.index(letter)])


def settings_of(text: str) -> StudentTraining:
    """The settings in a `settings` column. Of a base that is only prompted, what a trained student has too."""
    values: dict[str, Any] = json.loads(text)
    if "shots" in values:
        return StudentTraining(max_length=values["max_length"], k=values["k"], seed=values["seed"])
    lora = Lora(**values.pop("lora"))
    return StudentTraining(lora=lora, **values)


def _drawing(decoding: Decoding, budget: int, seeds: Sequence[int]) -> Drawing:
    if decoding.samples == 1:
        return Drawing(budget)
    return Drawing(budget, decoding.temperature, decoding.top_p, tuple(seeds))


def _batches(order: Sequence[int], alone: Sequence[bool], size: int) -> list[list[int]]:
    """Consecutive slices of `order`, each of one kind."""
    batches: list[list[int]] = []
    for i in order:
        if not batches or len(batches[-1]) == size or alone[batches[-1][0]] != alone[i]:
            batches.append([])
        batches[-1].append(i)
    return batches
