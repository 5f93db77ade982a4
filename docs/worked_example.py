"""The worked example of `docs/example.md`: files, commands, and their output, run each time the page is made.

It stops where a model would be needed, so that the page is the same on every machine.
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
COLUMNS = "100"  # of the output
TIMES = re.compile(r" \(\d+(?:\.\d+)? s\)")  # differ from run to run


def transcript(*commands: str) -> str:
    """Return Markdown with each command and its output. The commands run in order, in a new folder with FILES.

    Raises RuntimeError if one fails.
    """
    parts: list[str] = []
    with TemporaryDirectory() as folder:
        for name, text in FILES.items():
            Path(folder, name).parent.mkdir(exist_ok=True)
            Path(folder, name).write_text(text, encoding="utf-8")
        with chdir(folder):
            for command in commands:
                parts.append(f"```\n$ kard {command}\n{_output(command)}\n```\n")
    return "\n".join(parts)


def files() -> str:
    """Return Markdown with the files that the commands read."""
    return "\n".join(f"`{name}`:\n\n```\n{text}```\n" for name, text in FILES.items())


def _output(command: str) -> str:
    environment = {"KARD_STORE": None, "KARD_KNOWLEDGE": None, "COLUMNS": COLUMNS, "NO_COLOR": "1"}
    result = CliRunner(env=environment).invoke(main, shlex.split(command), prog_name="kard")
    if result.exit_code:
        raise RuntimeError(f"kard {command}: {result.output}") from result.exception
    lines = [TIMES.sub("", line).rstrip() for line in result.output.splitlines()]
    return "\n".join(lines).strip("\n")
