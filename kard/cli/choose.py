"""From options of the command line to a run, for every command that works on a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kard.cli import options, show
from kard.config import TaskSettings
from kard.db import open_store
from kard.files import adapters_folder
from kard.pipeline.options import DEFAULT_METHODS, DEFAULT_RETRIEVERS, RunOptions, Teacher, default_retrievers
from kard.pipeline.run import Run

if TYPE_CHECKING:
    from kard.work.workers import Workers

WORKERS = "kard.workers"  # in a context's `meta`
Command = TypeVar("Command", bound=Callable[..., Any])
SETTINGS = {
    "kappa": "retrieval.kappa",
    "k": "retrieval.k",
    "dense_encoder": "retrieval.encoder",
    "samples": "decoding.samples",
    "decide": "decoding.decide",
    "endpoint": "decoding.endpoint",
    "epochs": "student.epochs",
    "accept": "teaching.accept",
    "fraction": "teaching.fraction",
}
"""What is short for a setting of `--set`: options, and factors of `kard sweep`."""


def split(text: str) -> list[str]:
    """Return what stands between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def listed(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Return a comma-separated option as a tuple."""
    return None if value is None else tuple(split(value))


_size = click.option(
    "--size", "sizes", callback=listed, help="Sizes of students, comma-separated. [default: the first]"
)
_method = click.option(
    "--method",
    "methods",
    callback=listed,
    help=f"Methods, comma-separated. [default: {','.join(DEFAULT_METHODS)}]",
)
_retriever = click.option(
    "--retriever",
    "retrievers",
    callback=listed,
    help="What students read that read passages, comma-separated. "
    f"[default: {','.join(DEFAULT_RETRIEVERS)}; bm25 alone where nothing is trained]",
)
_train_limit = click.option(
    "--train-limit", type=click.IntRange(min=1), help="Only the first N training questions."
)
_limit = click.option("--limit", type=click.IntRange(min=1), help="Only the first N evaluated questions.")
_split = click.option("--split", help="Split to evaluate. [default: test, else dev, validation or valid]")
_teacher = click.option("--teacher", help="Name of the teacher, where the store has rationales of several.")
_encoder = click.option("--encoder", help="The reranker's base, by its name in the task. [default: the first]")
_dense_encoder = click.option(
    "--dense-encoder",
    help="Encoder of `dense` and `hybrid`: a base, or `reranker`. [default: the reranker's base, untrained]",
)
_kappa = click.option("--kappa", type=click.IntRange(min=1), help="Candidates that are found, then reranked.")
_k = click.option("-k", type=click.IntRange(min=1), help="Passages that a student reads.")
_samples = click.option("-n", "--samples", type=click.IntRange(min=1), help="Answers to vote on; 1 is greedy.")
_decide = click.option(
    "--decide",
    type=click.Choice(["written", "likelihood"]),
    help="What answers: the text, or the likeliest option after it.",
)
_epochs = click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training questions.")
_seed = click.option("--seed", type=click.IntRange(min=0), help="Seed of every training and of prompted examples.")
_base = click.option(
    "--base",
    "bases",
    multiple=True,
    metavar="SIZE=BASE",
    help="Another base for a size, or a size of your own, like 360m=HuggingFaceTB/SmolLM2-360M; repeatable.",
)
_accept = options.accept
_profile = click.option(
    "--profile",
    type=click.Choice(["paper"]),
    help="Settings of the paper's experiments in place of the task's (docs/paper.md); --set changes them.",
)


def is_seed(name: str) -> bool:
    """Whether a setting is one of the seeds, which `--seed` and `--seeds` set all at once."""
    return name in ("seed", "seeds") or name.endswith(".seed")


def _overrides(ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return what `--set` sets. Raises BadParameter for a seed where the command takes --seeds."""
    seeds = any(option.name == "seeds" for option in ctx.command.params)
    if seeds and any(is_seed(text.partition("=")[0].strip()) for text in texts):
        raise click.BadParameter("give seeds by --seeds, which sets every seed")
    return texts


_set = click.option(
    "--set",
    "overrides",
    multiple=True,
    callback=_overrides,
    metavar="NAME=VALUE",
    help="Any setting of docs/settings.md, like student.lora.rank=8 or reranker.loss=ce; repeatable.",
)
_EVALUATED = (
    _retriever,
    _limit,
    _split,
    _teacher,
    _encoder,
    _dense_encoder,
    _kappa,
    _k,
    _samples,
    _decide,
    options.endpoint,
    _seed,
    _base,
    _accept,
    _profile,
    _set,
)
_PLACES = (options.store, options.knowledge, options.quiet)


def _stack(*decorators: Callable[[Any], Any]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


run_options = _stack(_size, _method, _train_limit, _epochs, *_EVALUATED, *_PLACES)
"""The options of commands that train: all that a run is made of."""
evaluation_options = _stack(_size, *_EVALUATED, *_PLACES)
"""The options of commands that evaluate what is trained."""

counting_options = _stack(_method, _set)
"""The options of `kard memory`, which makes its own questions and knowledge bases."""

working_options = _stack(options.workers, options.ray)
"""Who does the steps."""

screening_options = _stack(_limit, _split, *_PLACES)
"""The options of commands that look at evaluated questions alone."""


def run_of(
    task: str,
    *,
    store: Path,
    knowledge: Path | None,
    quiet: bool,
    teacher: str | Teacher | None = None,
    seed: int | None = None,
    bases: tuple[str, ...] = (),
    overrides: tuple[str, ...] = (),
    profile: str | None = None,
    create: bool = False,
    worker_count: int | None = None,
    ray_address: str | None = None,
    **chosen: Any,
) -> Run:
    """Open the store and return the run that was chosen; what was not chosen is the task's own.

    `chosen` holds fields of RunOptions and options of `SETTINGS`; None stands for what was not chosen. Raises
    BadConfig for a size or encoder that the task does not declare, and for what asks options of a task without.
    """
    from kard import tasks
    from kard.cli.overrides import based, overridden

    loaded = tasks.load(task)
    loaded = replace(loaded, students=based(loaded.students, bases))
    chosen = {name: value for name, value in chosen.items() if value is not None}
    chosen.setdefault("retrievers", default_retrievers(chosen.get("methods", DEFAULT_METHODS)))
    short = [f"{path}={chosen.pop(name)}" for name, path in SETTINGS.items() if name in chosen]
    settings = loaded.settings if profile is None else TaskSettings.paper()
    settings = overridden(settings, [*overrides, *short])
    picked = RunOptions(
        settings=settings if seed is None else settings.seeded(seed),
        sizes=chosen.pop("sizes", ()) or (next(iter(loaded.students)),),
        teacher=Teacher(teacher) if isinstance(teacher, str) else teacher,
        **chosen,
    )
    if "options" not in loaded.answer.input_fields:
        picked.check_without_options(loaded.name)
    for size in picked.sizes:  # names are checked before anything is opened
        loaded.base_of(size)
    if picked.encoder is not None:
        loaded.encoder_of(picked.encoder)
    return Run(
        db=open_store(store, create=create),
        task=loaded,
        options=picked,
        store=store,
        knowledge=options.knowledge_of(store, knowledge),
        adapters=adapters_folder(store),
        progress=show.progress(quiet),
        workers=workers_of(worker_count, ray_address),
    )


def workers_of(count: int | None, address: str | None) -> Workers | None:
    """Return the workers of this command, which end with it; the same for all of its runs."""
    if not (count or address):
        return None
    from kard.work.workers import workers

    ctx = click.get_current_context()
    if WORKERS not in ctx.meta:
        ctx.meta[WORKERS] = ctx.with_resource(workers(count, address))
    return ctx.meta[WORKERS]
