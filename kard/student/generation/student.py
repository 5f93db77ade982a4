"""Students that answer: one resident base model, any number of adapters, batched generation (section 3.4)."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from kard.config import Decoding, Lora, StudentTraining
from kard.errors import Missing, NoBase
from kard.models import bases
from kard.models.adapters import AdapterSwitcher, checked
from kard.models.bases import Base
from kard.models.hardware import keep_memory
from kard.models.load import load_in
from kard.records import LETTERS, Sample
from kard.student import prompt as render
from kard.student.generation.batch import Row
from kard.student.generation.decoder import Decoder
from kard.student.generation.encoder_decoder import EncoderDecoder
from kard.student.generation.multi_adapter import generate_rows
from kard.student.generation.queue import Queue
from kard.student.tokens import Ids, Tokens


def meeting(model: Any, *, decoder: bool) -> tuple[int, int]:
    """How many parameters multiply each token that is read, and each that is written.

    All but the input embedding's; of an encoder-decoder the encoder's read, the others write.
    """
    embedding = model.get_input_embeddings().weight
    every = sum(p.numel() for p in model.parameters() if p is not embedding)
    if decoder:
        return every, every
    reading = sum(p.numel() for p in model.get_encoder().parameters() if p is not embedding)
    return reading, every - reading


class LoadedBase:
    """A base model in memory, and what waits to be answered with it."""

    def __init__(self, model: Any, tokens: Tokens, *, decoder: bool) -> None:
        keep_memory()
        self.tokens = tokens
        self.lock = threading.RLock()  # held from `wear` to the end of what is generated under it
        self.queue = Queue()
        self.reading, self.writing = meeting(model, decoder=decoder)
        self._worn = AdapterSwitcher(model)
        make = Decoder if decoder else EncoderDecoder
        self.writer: Decoder | EncoderDecoder = make(model, tokens.eos, tokens.pad)

    def activate(self, adapter: Path | None) -> None:
        """Change to another adapter, None for the base alone. The base is not loaded again."""
        self._worn.activate(adapter)


@lru_cache(maxsize=1)
def resident(base: Base) -> LoadedBase:
    """The base in memory: the last one that was asked for stays there, for all of its students."""
    decoder = base.kind == "decoder"
    return LoadedBase(load_in(base), Tokens.load(base.folder, decoder=decoder), decoder=decoder)


class Student:
    """One adapter over a resident base; without adapter, the base itself."""

    def __init__(
        self, home: LoadedBase, adapter: Path | None, settings: StudentTraining, *, name: str = "base"
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
            from kard.student.generation.prompted import load

            return load(resident(base), row)
        return cls(resident(base), adapter, settings_of(row["settings"]), name=student_id)

    def kept(self, prompt: str, text: str) -> str:
        """What counts of a written text: all of it, since a trained student ends its text itself."""
        del prompt
        return text

    def flops(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Floating-point operations of one sample: 2 for each token and parameter that it meets."""
        return 2.0 * (self.home.reading * prompt_tokens + self.home.writing * completion_tokens)

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
        options = choices if choices is not None else [()] * len(prompts)
        seeds = seeds if seeds is not None else range(len(prompts))
        rows = [Row(self, *row) for row in zip(prompts, options, seeds, strict=True)]
        return generate_rows(rows, decoding)

    def prompt_ids(self, prompt: str) -> Ids:
        """The prompt's ids, cut to fit."""
        return self.home.tokens.prompt(prompt, self.settings.max_length)

    def values(self, options: Sequence[str]) -> list[str]:
        """What this student writes after `Answer:` for each option."""
        return [f" {answer_form(options, letter, self.settings)}" for letter in LETTERS[: len(options)]]


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
