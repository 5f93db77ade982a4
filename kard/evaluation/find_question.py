"""A question by the id that people know it by: its key in the file, or its row in the store."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from kard.db import rows
from kard.errors import BadInput

if TYPE_CHECKING:
    from sqlite_utils import Database

ROW = "id:"  # before a row id, where another question has that number as its key


def find_question(db: Database, wanted: str | int, task: str | None = None) -> int:
    """The row id of a question. A key comes before a row id; `id:17` is a row id, and so is a number.

    Raises BadInput with the nearest ids when there is none, or when several tasks have a question of that key.
    """
    found = [(str(r["key"]), int(str(r["id"])), str(r["task"])) for r in rows(db, "question_keys", task=task)]
    if not found:
        of = f" of {task}" if task else ""
        raise BadInput(f"the store holds no question{of}; load some with: kard load {task or 'TASK'} FILE")
    if isinstance(wanted, str) and not wanted.startswith(ROW):
        named = [(key, of) for text, key, of in found if text == wanted]
        if len(named) > 1:
            tasks = ", ".join(sorted(of for _, of in named))
            raise BadInput(f"question {wanted!r} is in {tasks}; say which with --task, or give {ROW}{named[0][0]}")
        if named:
            return named[0][0]
    number = str(wanted).removeprefix(ROW)
    if number.isascii() and number.isdecimal() and int(number) in {key for _, key, _ in found}:
        return int(number)
    raise BadInput(f"no question {str(wanted)!r}; {_nearest(number, [text for text, _, _ in found], found[-1])}")


def _nearest(wanted: str, keys: list[str], last: tuple[str, int, str]) -> str:
    """What to try instead. Keys are the file's own words: repr keeps their control characters from a terminal."""
    near = get_close_matches(wanted, keys, n=3, cutoff=0.5)
    near += [key for key in keys if wanted and key.startswith(wanted) and key not in near][: 3 - len(near)]
    if near:
        return f"the nearest ids are {', '.join(repr(key) for key in near)}"
    _, row, task = last
    return (
        f"ids look like {keys[0]!r}, rows go up to {row}; list them with: kard query question_keys -p task {task}"
    )
