"""A worked example for the documents: files, commands and what they print, run each time the page is made.

It goes as far as a machine without a model goes, so that the page says the same everywhere.
"""

from __future__ import annotations

import re
import shlex
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

from click.testing import CliRunner

from kard.cli import main

FILES = {
    "manuals/pump.md": """\
# Pump P3

When the pump stops, the bypass closes first. The inlet valve closes two seconds later.
""",
    "manuals/boiler.md": """\
# Boiler

The boiler vents through the roof. Its drain is opened once a month.
""",
    "manuals/fan.md": """\
# Fan

The fan starts when the cellar is warmer than thirty degrees. It blows towards the street.
""",
    "questions.csv": """\
id,split,question,A,B,C,answer,rationale
valves,train,Which valve closes first when the pump stops?,the inlet valve,the bypass,none,B,\
When the pump stops the bypass closes first. So the answer is the bypass.
vent,train,Where does the boiler vent?,through the roof,to the street,nowhere,A,\
The boiler vents through the roof. So the answer is through the roof.
fan,test,Where does the fan blow?,to the roof,towards the street,nowhere,B,
""",
}
COLUMNS = "100"  # of what is printed
TIMES = re.compile(r" \(\d+(?:\.\d+)? s\)")  # they differ from run to run


def transcript(*commands: str) -> str:
    """Markdown: each command as it is typed, with what it prints, run in order in a folder of its own.

    Raises RuntimeError when one fails.
    """
    parts: list[str] = []
    with TemporaryDirectory() as folder:
        for name, text in FILES.items():
            Path(folder, name).parent.mkdir(exist_ok=True)
            Path(folder, name).write_text(text, encoding="utf-8")
        with chdir(folder):
            for command in commands:
                parts.append(f"```\n$ kard {command}\n{_printed(command)}\n```\n")
    return "\n".join(parts)


def files() -> str:
    """Markdown: the files that the commands read."""
    return "\n".join(f"`{name}`:\n\n```\n{text}```\n" for name, text in FILES.items())


def _printed(command: str) -> str:
    unset = {"KARD_STORE": None, "KARD_KNOWLEDGE": None, "COLUMNS": COLUMNS, "NO_COLOR": "1"}
    done = CliRunner(env=unset).invoke(main, shlex.split(command), prog_name="kard")
    if done.exit_code:
        raise RuntimeError(f"kard {command}: {done.output}") from done.exception
    lines = [TIMES.sub("", line).rstrip() for line in done.output.splitlines()]
    return "\n".join(lines).strip("\n")
