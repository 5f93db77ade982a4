"""`kard --help` appears at once: it imports the commands, and no library that takes a second to import."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("accelerate", "datasette", "dspy", "fastapi", "huggingface_hub", "numpy", "peft", "rich", "safetensors",
         "sqlite_utils", "tantivy", "torch", "transformers", "uvicorn")  # fmt: skip
SCRIPT = """
import json, sys
from kard.cli import main
main(sys.argv[1:], prog_name="kard", standalone_mode=False)
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def modules_after(*arguments: str) -> set[str]:
    """Return the top-level modules that a new Python process has imported after the command line has run."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True)
    assert "Usage: kard" in done.stdout
    return {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}


def test_the_list_of_commands_imports_nothing_heavy() -> None:
    assert modules_after("--help") & set(HEAVY) == set()


@pytest.mark.parametrize("command", ["demo", "teach", "train", "evaluate", "serve"])
def test_help_of_a_command_that_needs_models_imports_nothing_heavy(command: str) -> None:
    assert modules_after(command, "--help") & set(HEAVY) == set()


def test_a_heavy_import_would_be_seen() -> None:
    """Otherwise the tests above could pass without looking at anything."""
    script = SCRIPT.replace("from kard.cli import main", "import numpy; from kard.cli import main")
    done = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True)
    assert "numpy" in json.loads(done.stderr.splitlines()[-1])
