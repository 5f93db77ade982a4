"""Students over a base model in memory: any number of adapters, or the base alone with a prompt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import dspy
from sqlite_utils import Database

from kard.config import Decoding, Prompting, StudentTraining, require
from kard.errors import Missing, NoBase
from kard.methods import Method
from kard.models import bases
from kard.models.adapters import AdapterCache, AdapterSwitcher, verified
from kard.models.bases import Base
from kard.models.hardware import empty_model, load_base
from kard.processes import keep_memory
from kard.records import LETTERS
from kard.student.examples import RationaleSource, shot_pairs
from kard.student.generation.decoder import Decoder
from kard.student.generation.encoder_decoder import EncoderDecoder
from kard.student.prompt import ANSWER, Fields, answer_form, render_shot, signature_for, up_to_first_answer
from kard.student.records import parse_prompted, parse_settings
from kard.student.tokens import PROMPT_SHARE, Ids, Tokens
from kard.tasks import Task


class StudentBase:
    """What students of one base share wherever it generates: its tokenizer, and its parameters for each token."""

    def __init__(self, model: Any, tokens: Tokens, *, decoder: bool) -> None:
        self.tokens = tokens
        self.prompt_parameters, self.completion_parameters = parameters_per_token(model, decoder=decoder)
        self.adapters = AdapterCache()


class RemoteBase(StudentBase):
    """A decoder in the memory of a server at `url`; here are its tokenizer and its shape.

    Raises BadConfig for an encoder-decoder, whose targets a server would not begin as training did.
    """

    def __init__(self, base: Base, url: str, note: Callable[[str], None] = lambda _text: None) -> None:
        require(
            base.kind == "decoder",
            f"{base.spec} is an encoder-decoder, which no endpoint continues prompts with; leave --endpoint out",
        )
        super().__init__(empty_model(base), Tokens.load(base.folder, decoder=True), decoder=True)
        self.spec, self.url, self.note = base.spec, url, note


class LoadedBase(StudentBase):
    """A base model in memory, with its tokenizer, under one adapter at a time."""

    def __init__(self, model: Any, tokens: Tokens, *, decoder: bool) -> None:
        keep_memory()
        super().__init__(model, tokens, decoder=decoder)
        self.lock = threading.RLock()  # held from `activate` to the end of what is generated under that adapter
        self._switcher = AdapterSwitcher(model, self.adapters)
        build = Decoder if decoder else EncoderDecoder
        self.generator: Decoder | EncoderDecoder = build(model, tokens.eos, tokens.pad)

    def activate(self, adapter: Path | None) -> None:
        """Switch to another adapter, or to none, without loading the base again."""
        self._switcher.activate(adapter)


_in_memory: WeakValueDictionary[Base, LoadedBase] = WeakValueDictionary()


@lru_cache(maxsize=1)
def loaded_base(base: Base) -> LoadedBase:
    """Return the base in memory. The last one stays there, and every one that a student still stands on."""
    loaded = _in_memory.get(base)
    if loaded is None:
        decoder = base.kind == "decoder"
        loaded = LoadedBase(load_base(base), Tokens.load(base.folder, decoder=decoder), decoder=decoder)
        _in_memory[base] = loaded
    return loaded


def base_at(base: Base, endpoint: str, note: Callable[[str], None] = lambda _text: None) -> StudentBase:
    """Return the base in memory, or as the server at `endpoint` holds it, if there is one."""
    if not endpoint:
        return loaded_base(base)
    remote = _remote_base(base, endpoint)
    remote.note = note  # of who asks now
    return remote


@lru_cache(maxsize=4)  # a tokenizer and what is known of the server; no weights
def _remote_base(base: Base, url: str) -> RemoteBase:
    return RemoteBase(base, url)


def parameters_per_token(model: Any, *, decoder: bool) -> tuple[int, int]:
    """Return how many parameters multiply each token of a prompt, and each token of a completion.

    The input embedding's do not count. In an encoder-decoder the encoder reads and all other parameters write.
    """
    embedding = model.get_input_embeddings().weight
    total = sum(p.numel() for p in model.parameters() if p is not embedding)
    if decoder:
        return total, total
    encoder = sum(p.numel() for p in model.get_encoder().parameters() if p is not embedding)
    return encoder, total - encoder


class Student:
    """One adapter over a base in memory; without an adapter, the base itself."""

    def __init__(
        self,
        base: StudentBase,
        adapter: Path | None,
        settings: StudentTraining,
        *,
        name: str = "base",
        target_tokens: int = 0,
    ) -> None:
        self.base, self.adapter, self.settings, self.name = base, adapter, settings, name
        self.target_tokens = target_tokens  # of the longest target that it was taught, 0 for none

    def fit_prompt(self, prompt: str) -> tuple[Ids, bool]:
        """Return the prompt's ids, and whether passage text was cut to make it fit."""
        return self.base.tokens.fit_prompt(prompt, self.settings.max_length)

    def too_long(self, *texts: str) -> str:
        """Return what is wrong with a question and options far longer than what was taught, '' if they may fit."""
        limit = 8 * self.settings.max_length  # bytes: some two tokens for each that the student was taught
        if sum(len(text.encode()) for text in texts) <= limit:
            return ""
        return f"the question has more than the {limit:,} bytes that fit"

    def budgeted(self, decoding: Decoding) -> Decoding:
        """Return the decoding with room for what this student was taught, unless it names a number of tokens."""
        return decoding.budgeted(self.target_tokens, self.settings.max_target)

    def option_texts(self, options: Sequence[str]) -> list[str]:
        """Return what this student writes after `Answer:` for each option, with a leading space."""
        return [f" {answer_form(options, letter, self.settings)}" for letter in LETTERS[: len(options)]]

    def trim(self, prompt: str, text: str) -> str:
        """Return the part of a text that counts: all of it, since a trained student ends its text itself."""
        del prompt
        return text

    def flops(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the floating-point operations of one sample: 2 for each token and parameter that multiplies it."""
        base = self.base
        return 2.0 * (base.prompt_parameters * prompt_tokens + base.completion_parameters * completion_tokens)


class PromptedStudent(Student):
    """A base without an adapter: the in-context rows of the paper's table (section 4.1)."""

    def __init__(self, base: StudentBase, prompting: Prompting, source: RationaleSource, *, name: str) -> None:
        settings = StudentTraining(max_length=prompting.max_length, k=prompting.k, seed=prompting.seed)
        super().__init__(base, None, settings, name=name)
        self.prompting, self.source = prompting, source

    def trim(self, prompt: str, text: str) -> str:
        """Return the text up to its first answer or next question: a base does not know where an answer ends."""
        return up_to_first_answer(prompt, text)

    def shots(self, db: Database, task: Task, method: Method, index_id: str | None) -> list[Fields]:
        """Return the worked examples for the prompt; with an index, each with its silver passages."""
        pairs = shot_pairs(db, task.name, method, self.prompting, self.source, index_id=index_id)
        shots = [{**pair.inputs(), **pair.outputs(self.settings)} for pair in pairs]
        return self.fitting(signature_for(task.answer, method), shots)

    def fitting(self, signature: type[dspy.Signature], shots: Sequence[Fields]) -> list[Fields]:
        """Return the first examples that fit half of the prompt; question and passages get the other half."""
        room = self.settings.max_length * PROMPT_SHARE / 2
        fitting: list[Fields] = []
        for shot in shots:
            room -= len(self.base.tokens.ids(render_shot(signature, shot)))
            if room < 0:
                break
            fitting.append(shot)
        return fitting


def load_student(
    db: Database,
    student_id: str,
    adapters: Path,
    endpoint: str = "",
    note: Callable[[str], None] = lambda _text: None,
) -> Student:
    """Return the student with this id. With an `endpoint` the server there generates, and `note` hears of waiting.

    Raises Missing if it was not trained or its adapter has changed, NoBase if its base is not there or has changed.
    """
    row = next(db.query("select * from students where id = ?", [student_id]), None)
    if row is None:
        raise Missing(f"no student {student_id}; train one with: kard train student TASK")
    adapter = None
    if row["path"]:  # empty for a prompted base
        adapter = verified(adapters / Path(row["path"]).name, row["sha256"], row["task"])
    base = bases.resolve(row["base"])
    if base.sha256 != row["base_sha256"]:
        raise NoBase(
            f"{row['base']} now has other weights than student {student_id} was trained on; "
            f"train it again with: kard train student {row['task']}"
        )
    holder = base_at(base, endpoint, note)
    if adapter is None:
        return PromptedStudent(holder, *parse_prompted(row), name=student_id)
    settings = parse_settings(row["settings"])
    return Student(holder, adapter, settings, name=student_id, target_tokens=row["target_tokens"])


@dataclass(frozen=True)
class Row:
    """A prompt for a student, its options as texts (none for free text), and the seed of its random draws.

    `budget` is its number of new tokens where rows of a batch have different ones, else 0. A row with `ids` reads
    these instead of its prompt, and its sample is `forced` by the budget if it did not end.
    """

    student: Student
    prompt: str
    options: Sequence[str]
    seed: int
    budget: int = 0
    ids: Ids | None = None

    @cached_property
    def fitted(self) -> tuple[Ids, bool]:
        """The prompt's ids, cut to fit, and whether passage text was cut."""
        return self.student.fit_prompt(self.prompt) if self.ids is None else (self.ids, False)

    @property
    def prompt_ids(self) -> Ids:
        """The prompt's ids, cut to fit."""
        return self.fitted[0]

    @cached_property
    def option_texts(self) -> list[str]:
        """What the student writes for each option."""
        return self.student.option_texts(self.options)

    def counting(self, text: str) -> str:
        """Return the part of a text that counts; without options it ends with its first answer."""
        if self.options or self.ids is not None:
            return self.student.trim(self.prompt, text)
        return up_to_first_answer(self.prompt, text)

    @property
    def answer_only(self) -> bool:
        """Whether the prompt asks for an answer without a rationale."""
        return self.prompt.endswith(ANSWER)
