"""Options that several commands share, and what they open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import click
from click.core import ParameterSource

from kard.config import Accept

TYPED = "kard.typed."  # before the names of what was typed, in a context's `meta`
Command = TypeVar("Command", bound=Callable[..., Any])


def _typed(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Note the place that a person typed: errors name the next command with it."""
    name = str(parameter.name)
    if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
        ctx.meta[f"{TYPED}{name}"] = value
    return value


store = click.option(
    "--store",
    callback=_typed,
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="KARD_STORE",
    default=Path("kard.db"),
    show_default=True,
    help="The SQLite file that holds everything. [env: KARD_STORE]",
)


def _named(ctx: click.Context, parameter: click.Parameter, value: Path) -> Path:
    """Note the store even if it was not typed: other commands have another default."""
    ctx.meta[f"{TYPED}{parameter.name}"] = value
    return value


def new_store(name: str) -> Callable[[Command], Command]:
    """Return the option for the store of a command that makes one of its own."""
    return click.option(
        "--store",
        callback=_named,
        type=click.Path(dir_okay=False, path_type=Path),
        default=Path(name),
        show_default=True,
        help="SQLite file to make; a second run adds what is missing.",
    )


knowledge = click.option(
    "--knowledge",
    callback=_typed,
    type=click.Path(file_okay=False, path_type=Path),
    envvar="KARD_KNOWLEDGE",
    default=None,
    help="Folder of the knowledge base. [env: KARD_KNOWLEDGE] [default: STORE with .knowledge for .db]",
)
quiet = click.option("--quiet", "-q", is_flag=True, help="No progress on stderr.")
limit = click.option("--limit", type=click.IntRange(min=1), help="At most this many questions.")
api_base = click.option("--api-base", metavar="URL", help="Address of a server that speaks OpenAI's protocol.")
endpoint = click.option(
    "--endpoint",
    metavar="URL",
    help="Server that generates instead: vLLM with the adapters, or kard serve; a key is KARD_ENDPOINT_KEY.",
)
max_cost = click.option(
    "--max-cost",
    type=click.FloatRange(min=0, min_open=True),
    metavar="DOLLARS",
    help="Stop before this run costs more; refused where no price is known.",
)
timeout = click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    default=300.0,
    show_default=True,
    help="Time for one request to the model.",
)
accept = click.option(
    "--accept",
    type=click.Choice(get_args(Accept)),
    metavar="RULE",
    help="Whose verdict lets a rationale train: `own` conclusion, `verified` by its readers, `both`, `none`.",
)
whose = click.option("--split", default="train", show_default=True, help="Whose questions.")
dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
vectors = click.option(
    "--encoder",
    help="What makes the vectors: a base, or a reranker of the store by its id. [default: the embedded one]",
)
workers = click.option(
    "--workers",
    "worker_count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes of this machine that do the work in parts.",
)
ray = click.option(
    "--ray",
    "ray_address",
    metavar="ADDRESS",
    envvar="RAY_ADDRESS",
    help="Ray cluster that does the work instead, --workers parts at a time. [env: RAY_ADDRESS] [extra: ray]",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
FORMS = {
    "json": "Print JSON.",
    "nl": "Print one JSON object a line.",
    "csv": "Print CSV.",
    "markdown": "Print Markdown.",
}


def forms(*names: str) -> Callable[[Command], Command]:
    """An option for each of these names of `FORMS` and `--table`; the command takes the chosen one as `form`."""

    def decorate(command: Command) -> Command:
        command = click.option(
            "--table", "form", flag_value="table", default="table", help="Print a table.  [default]"
        )(command)
        for name in reversed(names):  # the last to be put on is the first in the help
            command = click.option(f"--{name}", "form", flag_value=name, help=FORMS[name])(command)
        return command

    return decorate


def propose(purpose: str, command: str) -> None:
    """Print a command that comes next, with the store and the knowledge base that were typed."""
    say(f"{purpose}: {command}")


def say(message: str) -> None:
    """Print a message, whose commands get the store and the knowledge base that were typed."""
    ctx = click.get_current_context()
    click.echo(cast(Any, ctx.find_root().command).with_places(ctx, message))


def knowledge_of(store_path: Path, folder: Path | None) -> Path:
    """The knowledge base that a store uses unless told otherwise: `kard.knowledge` beside `kard.db`."""
    return folder or store_path.with_suffix(".knowledge")
