"""The command line. Each command parses, calls one function and prints; nothing heavy is imported before that."""

from __future__ import annotations

import atexit
import errno
import gc
import re
import shlex
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import IO, Any

import click

from kard.cli.options import TYPED
from kard.db import BUSY_MILLISECONDS
from kard.errors import KardError
from kard.outgoing import guard_streams
from kard.processes import limit
from kard.progress import measuring

# By group and in the order of the work; `kard --help` keeps both. Each is `module:command` below kard.cli.
GROUPS = {
    "Start": {
        "demo": "demo:demo",
        "run": "run:run",
        "status": "run:status",
        "rebuild": "run:rebuild",
        "tasks": "load:tasks",
    },
    "Data": {
        "load": "load:load",
        "index": "knowledge:index",
        "search": "knowledge:search",
        "export": "teach:export",
        "merge": "merge:merge",
        "encodings": "encodings:encodings",
    },
    "Teach and train": {
        "teach": "teach:teach",
        "verify": "teach:verify",
        "ground": "teach:ground",
        "train": "run:train",
        "ablate": "ablate:ablate",
    },
    "Evaluate": {
        "evaluate": "run:evaluate",
        "sweep": "sweep:sweep",
        "memory": "memory:memory",
        "report": "report:report",
        "compare": "report:compare",
        "diff": "diff:diff",
        "hits": "hits:hits",
        "measure": "knowledge:measure",
        "screen": "run:screen",
        "rescore": "failures:rescore",
        "failures": "failures:failures",
    },
    "Look, serve and share": {
        "ask": "ask:ask",
        "explain": "explain:explain",
        "rationales": "rationales:rationales",
        "judge": "rationales:judge",
        "query": "query:query",
        "ui": "ui:ui",
        "serve": "serve:serve",
        "models": "models:models",
    },
}
COMMANDS = {name: place for group in GROUPS.values() for name, place in group.items()}


KEPT = "what was done until then is kept: run it again when that is mended"
REFUSALS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP),
}
STORE_REFUSALS = {
    "locked": f"another command has been writing to it for {BUSY_MILLISECONDS // 1000} s; run it again",
    "is full": f"make room on its disk; {KEPT}",
    "disk I/O": f"its disk cannot be read or written; {KEPT}",
    "readonly": "it cannot be written; copy it to a folder of your own",
    "unable to open": f"it, or a file beside it, cannot be opened; {KEPT}",
    "malformed": "it is damaged; take what can be read with: sqlite3 STORE .recover",
}


NAMED_COMMAND = re.compile(r"(?<=: )kard [a-z]+(?:(?! or |[;,()]).)*")  # in an error, up to what follows it


class Commands(click.Group):
    """A group that imports a command's file when it is asked for, and shows every KardError once, in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        return getattr(import_module(f"kard.cli.{module}"), name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was typed; for an unknown one, say which may have been meant."""
        near = get_close_matches(args[0], COMMANDS, n=1)
        if near and args[0] not in COMMANDS and not ctx.resilient_parsing:
            ctx.fail(f"no command {args[0]!r}; did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in their groups, each with the first sentence of its help in full."""
        for title, commands in GROUPS.items():
            with formatter.section(title):
                helps = {name: self.get_command(ctx, name) for name in commands}
                formatter.write_dl(
                    [(name, command.get_short_help_str(200)) for name, command in helps.items() if command]
                )

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run as a program, whose output is clean whatever texts it shows."""
        guard_streams()
        return super().main(*args, **extra)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a KardError ends it with exit code 1 and its message.

        So does what the system refuses: disks, permissions, and stores that another command holds. Who interrupts a
        command that works hears that it can go on.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            if ctx.invoked_subcommand not in GROUPS["Look, serve and share"]:
                click.echo("\nwhat was done is kept; the same command goes on", err=True)
            raise
        except KardError as error:
            problem, cause = str(error), error
        except UnicodeEncodeError as error:
            wrong, cause = ascii(error.object[error.start : error.end]), error
            problem = f"a name or text holds {wrong}, which is no character of UTF-8; write it in UTF-8"
        except (OSError, sqlite3.Error) as error:
            if not (problem := _refused(error)):
                raise
            cause = error
        raise click.ClickException(self.with_places(ctx, " ".join(problem.splitlines()))) from cause

    def with_places(self, ctx: click.Context, message: str) -> str:
        """Return the message with the typed store and knowledge base in each command that it names."""

        def placed(match: re.Match[str]) -> str:
            line = match[0].rstrip()
            words = line.split()
            command = self.get_command(ctx, words[1])
            if isinstance(command, click.Group) and len(words) > 2:
                command = command.get_command(ctx, words[2]) or command
            for parameter in () if command is None else command.params:
                option = f"--{parameter.name}"
                if option not in line and (place := ctx.meta.get(f"{TYPED}{parameter.name}")):
                    line += f" {option} {shlex.quote(str(place))}"
            return line + match[0][len(match[0].rstrip()) :]

        return NAMED_COMMAND.sub(placed, message)


def _refused(error: Exception) -> str:
    """Say in one line what the system refused, with what to do; '' for errors of the program."""
    if isinstance(error, OSError):
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{(error.strerror or '').lower()}; {KEPT}" if error.errno in REFUSALS else ""
    advice = next((advice for words, advice in STORE_REFUSALS.items() if words in str(error)), "")
    return advice and f"the store: {error}; {advice}"


@contextmanager
def _timed(file: IO[str]) -> Generator[None]:
    """Measure the command; print the table and write the trace at its end, however it ends."""
    with measuring() as timings:
        try:
            yield
        finally:
            from kard.cli import show

            show.table("", ("work", "calls", "seconds", "share"), timings.table(), stderr=True)
            timings.write(file)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kard", message="kard %(version)s")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    envvar="KARD_THREADS",
    help="Threads of every library. [env: KARD_THREADS] [default: as many as this process may use]",
)
@click.option(
    "--timings",
    metavar="FILE",
    type=click.File("w", encoding="utf-8", lazy=False),
    help="Where the time goes: a table on stderr at the end, and a trace for ui.perfetto.dev or chrome://tracing.",
)
@click.pass_context
def main(ctx: click.Context, threads: int | None, timings: IO[str] | None) -> None:
    """Small models that look things up, reason aloud and answer; every step in one SQLite store.

    Start with `kard demo`: no key and no model hub needed.
    """
    limit(threads)
    if timings:
        ctx.with_resource(_timed(timings))
    # An answer imports 3,700 modules, nothing of which is garbage: going over all of it took 1 of 12 CPU s, and 2
    # more at the end, where the memory goes back to the system anyway.
    gc.set_threshold(*gc.get_threshold()[:2], 100)
    atexit.register(gc.freeze)
