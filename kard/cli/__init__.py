"""The command line. Each command parses, calls one function and prints; nothing heavy is imported before that."""

from __future__ import annotations

from importlib import import_module

import click

from kard.errors import KardError

# In the order of the work; `kard --help` keeps it. Each is `module:command` below kard.cli.
COMMANDS = {
    "demo": "demo:demo",
    "run": "run:run",
    "status": "run:status",
    "rebuild": "run:rebuild",
    "load": "load:load",
    "index": "knowledge:index",
    "search": "knowledge:search",
    "encodings": "encodings:encodings",
    "teach": "teach:teach",
    "verify": "verify:verify",
    "export": "teach:export",
    "ground": "ground:ground",
    "train": "train:train",
    "rank": "rank:rank",
    "answer": "answer:answer",
    "evaluate": "evaluate:evaluate",
    "hits": "hits:hits",
    "report": "report:report",
    "compare": "compare:compare",
    "rescore": "rescore:rescore",
    "ask": "ask:ask",
    "explain": "explain:explain",
    "failures": "failures:failures",
    "judge": "judge:judge",
    "ablate": "ablate:ablate",
    "rationales": "rationales:rationales",
    "query": "query:query",
    "ui": "ui:ui",
    "models": "models:models",
    "tasks": "load:tasks",
}


class Commands(click.Group):
    """Imports a command's file when it is asked for, and shows every KardError once, in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        return getattr(import_module(f"kard.cli.{module}"), name)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a KardError ends it with exit code 1 and its message."""
        try:
            return super().invoke(ctx)
        except KardError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kard", message="kard %(version)s")
def main() -> None:
    """Small models that look things up, reason aloud and answer; every step in one SQLite store.

    Start with `kard demo`: no key and no model hub needed.
    """
