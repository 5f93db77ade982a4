"""Tasks: one module each, which defines a `TASK`. `kard/tasks.py` loads them by name, from `kard.programs`.

A task of your own is a file anywhere, given by its path, as in `kard load ./capitals.py questions.csv`:

    from kard.programs import Answer, RetrieveThenAnswer, Teach, plain, required
    from kard.tasks import Task


    class Explain(Teach):
        '''Explain why the given city is right. End with: Therefore, the answer is (letter) city.'''


    class Choose(Answer):
        '''Reason from the passages, then name one of the cities.'''


    def parse(row):
        return plain(row, options=required(row, "cities").split(";"))


    TASK = Task("capitals", "Capitals of the world.", parse, Explain, Choose, RetrieveThenAnswer)

`kard run ./capitals.py` then does what it does for the tasks in this folder. To add a task to this folder, put its
file here; it is loaded by the file's name.

* `parse` turns one row of a file into a `kard.records.Question`. It returns None for a row that is no question and
  raises ValueError, in words for the user, for a wrong one (BadInput if it shows that the whole file is read
  wrongly). `_common.py` has readers for usual rows.
* `Explain` tells the teacher what to write, `Choose` the student. Write instructions and descriptions of your own,
  but keep the fields of `Teach` and `Answer`; for questions without options, those of `shortqa`.
* `Task` has more fields: examples for the teacher, base models, settings, a generated world (see `kard/tasks.py`).
* A program with other fields is no task: teach it with `kard.finetune` (docs/python.md).

In reading order: `_common` (signatures, inference program, readers of rows), `choice` and `shortqa` (questions of
your own, with and without options), then published data (`sciq`, `qasc`, `strategyqa`, `medqa` and so on), and
`atlas` (the demo's generated world). They import nothing of kard but its vocabulary: config, errors, files,
records, tasks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._common import Answer, RetrieveThenAnswer, Teach, lettered, plain, required, shot

__all__ = ["DEMO", "OWN", "Answer", "RetrieveThenAnswer", "Teach", "lettered", "plain", "required", "shot"]

DEMO = "atlas"
OWN = "choice"  # the task for people's own questions


def __getattr__(name: str) -> object:
    """Import a public name from `_common` when it is first used: dspy takes seconds to import."""
    if name in __all__:
        return getattr(import_module("kard.programs._common"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
