"""Text to token ids, and lists of ids to batches, the same for training and for generation.

A prompt, each cue and each value are tokenized apart and joined. So the ids of a prompt always begin the ids of
prompt and target, whatever merges the tokenizer knows across their border.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kard.errors import NoBase
from kard.progress import timed
from kard.student.prompt import split_at_passages

PROMPT_SHARE = 0.75  # of max_length; the rest is for the target

Ids = list[int]


class Tokens:
    """A base model's tokenizer, with the two forms that a student needs: prompts and targets."""

    def __init__(self, tokenizer: Any, *, decoder: bool) -> None:
        if tokenizer.eos_token_id is None:
            raise NoBase("the base model's tokenizer has no end-of-text token; choose another base")
        self.tokenizer = tokenizer
        self.eos: int = tokenizer.eos_token_id
        # Where the padding id is eos, a mask `ids != pad` would lose the eos. So masks are made of lengths.
        self.pad: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.eos
        special: Ids = tokenizer("")["input_ids"]
        if decoder:
            self.before, self.after = [i for i in special if i != self.eos][:1], []
        else:
            self.before, self.after = special[:-1], special[-1:]

    @classmethod
    @timed("load a tokenizer")
    def load(cls, folder: Path, *, decoder: bool) -> Tokens:
        """Return the tokenizer of a base model's folder."""
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(folder), decoder=decoder)

    @timed("tokenize")
    def ids(self, text: str) -> Ids:
        """Return the ids of the text alone, without special tokens."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []

    @timed("tokenize")
    def text(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids, without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def prompt(self, text: str, max_length: int) -> Ids:
        """Return a prompt's ids, at most three quarters of `max_length`: only the end of the passages is cut."""
        return self.fit_prompt(text, max_length)[0]

    def fit_prompt(self, text: str, max_length: int) -> tuple[Ids, bool]:
        """Return what `prompt` returns, and whether passage text was cut."""
        before, passages, rest = split_at_passages(text)
        head = self.ids(f"{before}\n" if before and passages else before)
        tail = self.ids(f"\n{rest}" if passages else rest)
        room = int(max_length * PROMPT_SHARE) - len(self.before) - len(head) - len(tail) - len(self.after)
        read = self.ids(passages)
        ids = [*self.before, *head, *read[: max(room, 0)], *tail, *self.after]
        return ids, len(read) > max(room, 0)

    def target(self, pieces: Sequence[tuple[str, str]]) -> Ids:
        """Return a target's ids with end-of-text, whole: a rationale cut short would teach to break off."""
        start = [i for cue, value in pieces[:-1] for i in (*self.ids(cue), *self.ids(value))]
        return [*start, *self.ids(pieces[-1][0]), *self.choice(pieces[-1][1])]

    def choice(self, value: str) -> Ids:
        """Return an answer's ids (with its leading space) and end-of-text: what a forced answer is scored by."""
        return [*self.ids(value), self.eos]


def padded(rows: Sequence[Ids], pad: int, device: torch.device, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Return ids and mask, (B, longest). The mask follows the lengths: a padding id may be an eos that counts."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, row in enumerate(rows):
        columns = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[i, columns] = torch.tensor(row)
        mask[i, columns] = 1
    return ids.to(device), mask.to(device)


def grouped(lengths: Sequence[int], max_tokens: int, max_rows: int | None = None) -> Iterator[range]:
    """Yield ranges of consecutive rows, as many as `max_tokens` hold when padded to the longest; at least one."""
    start = longest = 0
    for row, length in enumerate(lengths):
        count = row + 1 - start
        if row > start and (
            max(longest, length) * count > max_tokens or (max_rows is not None and count > max_rows)
        ):
            yield range(start, row)
            start, longest = row, 0
        longest = max(longest, length)
    if lengths:
        yield range(start, len(lengths))


def distinct(rows: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    """Return the index of the first of each group of equal rows, and for every row the number of its group."""
    first: dict[Hashable, int] = {}
    for index, row in enumerate(rows):
        first.setdefault(row, index)
    group = {row: number for number, row in enumerate(first)}
    return list(first.values()), [group[row] for row in rows]
