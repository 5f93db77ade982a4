"""`kard serve`: students behind OpenAI's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kard.cli import choose, options
from kard.errors import NoExtra

if TYPE_CHECKING:
    from kard.pipeline.run import Run

MEGABYTE = 1 << 20


@click.command()
@click.option(
    "--student", "names", multiple=True, help="Serve these alone: ids or names like choice/135m/kard; repeatable."
)
@click.option(
    "--task",
    "tasks",
    multiple=True,
    help="Tasks, or files of tasks, whose students are served; repeatable. [default: all]",
)
@click.option(
    "--retriever",
    type=click.Choice(["none", "bm25", "reranker", "fused"]),
    help="What finds the passages. [default: fused if it was chosen, else reranker, else bm25]",
)
@click.option(
    "-k", type=click.IntRange(min=1), help="Passages that a student reads. [default: as many as when it was taught]"
)
@click.option(
    "-n",
    "--samples",
    type=click.IntRange(min=1),
    help="Answers to vote on where a request names no number. [default: the task's]",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; others than loopback need KARD_SERVE_KEY.",
)
@click.option(
    "--port",
    type=click.IntRange(min=0, max=65535),
    default=8002,
    show_default=True,
    help="Port; 0 takes a free one.",
)
@click.option(
    "--queue",
    "places",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Requests that are accepted at a time; more get status 429.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for one answer, waiting included; then status 504.",
)
@click.option(
    "--max-kilobytes",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Size of a request; larger ones get status 413.",
)
@click.option(
    "--adapter-megabytes",
    type=click.IntRange(min=0),
    default=512,
    show_default=True,
    help="Memory for adapters beside each base; the one used longest ago leaves first.",
)
@options.endpoint
@options.store
@options.knowledge
def serve(
    names: tuple[str, ...],
    tasks: tuple[str, ...],
    retriever: str | None,
    k: int | None,
    samples: int | None,
    host: str,
    port: int,
    places: int,
    timeout: float,
    max_kilobytes: int,
    adapter_megabytes: int,
    endpoint: str | None,
    store: Path,
    knowledge: Path | None,
) -> None:
    """Serve the trained students as an OpenAI-compatible endpoint.

    A model is a student: its id, or a name like choice/135m/kard for the newest of its kind. Passages are found and
    read, and returned with the answer. Requests of several students share a batch. A page at `/` asks one question.
    Ctrl-C ends it when every accepted request is answered.
    """
    from kard.db import open_store
    from kard.pipeline.evaluate import nothing_to_ask

    db = open_store(store, create=False)
    stored = [
        str(row[0]) for row in db.execute("select distinct task from students where path <> '' order by task")
    ]
    db.close()
    if not tasks and not stored:
        raise nothing_to_ask(store, "TASK")
    try:
        from kard.serve.app import Limits
        from kard.serve.server import key_for, serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "kard":
            raise
        raise NoExtra("fastapi or uvicorn is not installed; add them with: pip install 'kard[serve]'") from error
    import os

    key_for(host, os.environ)  # a wrong key is told before seconds of loading

    def run_of(task: str) -> Run:
        chosen: dict[str, Any] = {"samples": samples, "endpoint": endpoint}
        return choose.run_of(task, store=store, knowledge=knowledge, quiet=True, **chosen)

    from kard.config import Decoding
    from kard.serve.students import Students

    students = Students(
        run_of, tasks or stored, names, retriever=retriever, k=k, adapter_bytes=adapter_megabytes * MEGABYTE
    )
    students.load(students.listed[0])  # what is wrong with a store is told now
    limits = Limits(places, timeout, max_kilobytes << 10)

    def ready(address: str) -> None:
        count = len(students.listed)
        click.echo(f"{count} student{'s' if count > 1 else ''} of {store} at {address}v1 (Ctrl-C ends it)")

    # Twice a batch: while one is generated, the passages of the next are found.
    serve(students, limits, host=host, port=port, threads=2 * Decoding().batch, ready=ready)
