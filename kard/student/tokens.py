"""Text to token ids: the same for training, generation and forced answers, so that a student meets no new form.

A prompt, each cue and each value are tokenised apart and joined. So the ids of a prompt are always the start of
the ids of prompt and target, whatever merges the tokenizer knows across their border.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kard.errors import NoBase
from kard.student import prompt as render

PROMPT_SHARE = 0.75  # of max_length; the rest stays free for what the student writes

Ids = list[int]


class Tokens:
    """A base model's tokenizer, as the student's two forms need it."""

    def __init__(self, tokenizer: Any, *, decoder: bool) -> None:
        if tokenizer.eos_token_id is None:
            raise NoBase("the base model's tokenizer has no end-of-text token; choose another base")
        self.tokenizer = tokenizer
        self.eos: int = tokenizer.eos_token_id
        # Rows are told apart by their lengths: where pad is eos, a mask `ids != pad` would lose the eos.
        self.pad: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.eos
        special: Ids = tokenizer("")["input_ids"]
        if decoder:
            self.before, self.after = [i for i in special if i != self.eos][:1], []
        else:
            self.before, self.after = special[:-1], special[-1:]

    @classmethod
    def load(cls, folder: Path, *, decoder: bool) -> Tokens:
        """The tokenizer of a base model's folder."""
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(folder), decoder=decoder)

    def ids(self, text: str) -> Ids:
        """Ids of the text alone."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []

    def text(self, ids: Sequence[int]) -> str:
        """The text of generated ids, without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def prompt(self, text: str, max_length: int) -> Ids:
        """Ids of a prompt, at most three quarters of `max_length`: passages lose their end, the rest is kept."""
        before, passages, rest = render.split(text)
        head = self.ids(f"{before}\n" if before and passages else before)
        tail = self.ids(f"\n{rest}" if passages else rest)
        room = int(max_length * PROMPT_SHARE) - len(self.before) - len(head) - len(tail) - len(self.after)
        return [*self.before, *head, *self.ids(passages)[: max(room, 0)], *tail, *self.after]

    def target(self, pieces: Sequence[tuple[str, str]], room: int) -> Ids:
        """Ids of a target and its end-of-text, `room` of them: what comes before the last output is cut."""
        last = self.choice(pieces[-1][1])
        if len(pieces) == 1:
            return last
        end = [*self.ids(pieces[-1][0]), *last]
        start = [i for cue, value in pieces[:-1] for i in (*self.ids(cue), *self.ids(value))]
        return [*start[: max(room - len(end), 0)], *end]

    def choice(self, value: str) -> Ids:
        """Ids of an answer (with its leading space) and the end-of-text: what a forced answer is scored by."""
        return [*self.ids(value), self.eos]
