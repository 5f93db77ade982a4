"""`kard --help` is there at once: it reads the commands' files, and no library that takes a second to import."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("accelerate", "datasette", "dspy", "huggingface_hub", "numpy", "peft", "rich", "safetensors",
         "sqlite_utils", "tantivy", "torch", "transformers", "uvicorn")  # fmt: skip
ASK = """
import json, sys
from kard.cli import main
main(sys.argv[1:], prog_name="kard", standalone_mode=False)
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def modules_after(*arguments: str) -> set[str]:
    """The top-level modules that a fresh Python has imported once the command line has run."""
    done = subprocess.run([sys.executable, "-c", ASK, *arguments], capture_output=True, text=True, check=True)
    assert "Usage: kard" in done.stdout
    return {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}


def test_the_list_of_commands_imports_nothing_heavy_though_it_reads_every_command() -> None:
    assert modules_after("--help") & set(HEAVY) == set()


@pytest.mark.parametrize("command", ["demo", "teach", "train", "evaluate"])
def test_help_of_a_command_that_will_need_models_imports_none_of_it(command: str) -> None:
    assert modules_after(command, "--help") & set(HEAVY) == set()


def test_what_a_step_imports_is_seen_by_the_question_that_is_asked_here() -> None:
    """Without this the tests above could pass because they look at nothing."""
    ask = ASK.replace("from kard.cli import main", "import numpy; from kard.cli import main")
    done = subprocess.run([sys.executable, "-c", ask, "--help"], capture_output=True, text=True, check=True)
    assert "numpy" in json.loads(done.stderr.splitlines()[-1])
