"""Knowledge-augmented reasoning distillation (KARD, arXiv 2305.18395) over one SQLite store.

For people who write Python (`docs/python.md`): `load_student` returns a student as a `dspy.LM`, `load_program` a
task's inference program over one, `with_student` a copy of any program that a student answers. `finetune` trains a
student for any program. Importing `kard` loads nothing heavy; the first use of one of these names does.

A command (`kard/cli/teach.py`) calls a step (`kard/pipeline/teach.py`), which calls the work
(`kard/teacher/teach.py`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from kard.version import __version__

if TYPE_CHECKING:
    from kard.api.finetune import finetune
    from kard.api.lm import StudentLM, with_student
    from kard.api.load import load_program, load_student
    from kard.config import Decoding, Lora, StudentTraining

__all__ = [
    "Decoding",
    "Lora",
    "StudentLM",
    "StudentTraining",
    "__version__",
    "finetune",
    "load_program",
    "load_student",
    "with_student",
]

_MODULES = {
    "Decoding": "kard.config",
    "Lora": "kard.config",
    "StudentTraining": "kard.config",
    "StudentLM": "kard.api.lm",
    "with_student": "kard.api.lm",
    "finetune": "kard.api.finetune",
    "load_program": "kard.api.load",
    "load_student": "kard.api.load",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
