"""What a task is: one module per task, each with a `TASK`.

A task of your own is a file anywhere, given by its path: `kard load ./capitals.py questions.csv`.

    from kard.programs import Answer, RetrieveThenAnswer, Teach, plain, required
    from kard.tasks import Task


    class Explain(Teach):
        '''Explain why the given city is right. End with: Therefore, the answer is (letter) city.'''


    class Choose(Answer):
        '''Reason from the passages, then name one of the cities.'''


    def parse(row):
        return plain(row, options=required(row, "cities").split(";"))


    TASK = Task("capitals", "Capitals of the world.", parse, Explain, Choose, RetrieveThenAnswer)

`kard run ./capitals.py` then does with it what it does with a task of its own. `parse` gets one row of the
file, gives a `kard.records.Question` (or None for a row that is none) and raises ValueError with what is
wrong. Instructions and descriptions of the signatures may be others; the fields that `Teach` and `Answer` have must
stay, and what is asked in another way, by a `program` of your own, is taught with `kard.finetune` (docs/python.md).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._common import Answer, RetrieveThenAnswer, Teach, lettered, plain, required, shot

__all__ = ["DEMO", "Answer", "RetrieveThenAnswer", "Teach", "lettered", "plain", "required", "shot"]

DEMO = "atlas"


def __getattr__(name: str) -> object:
    """The public parts of a task. They are imported when asked for: they need dspy, which takes seconds."""
    if name in __all__:
        return getattr(import_module("kard.programs._common"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
