"""`kard encodings`: the vectors beside a knowledge base."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from kard.cli import choose, options, show
from kard.files import adapters_folder

MEGABYTE = 1_000_000
SHORT = 12  # hex digits of a hash in a table


@click.group(invoke_without_command=True)
@options.knowledge
@options.store
@options.as_json
@click.pass_context
def encodings(ctx: click.Context, knowledge: Path | None, store: Path, as_json: bool) -> None:
    """List, make or drop the vectors of passages.

    The list says for each encoder how many passages it has encoded and how large the vectors are. Reranking and
    dense search encode passages when they need them, once for all runs. Vectors are never stale, and dropped ones
    are made again.
    """
    if ctx.invoked_subcommand is not None:
        return
    from kard.encoders.vectors import list_encodings

    stored = list_encodings(options.knowledge_of(store, knowledge))
    if as_json:
        show.as_json([{"id": s.folder.name, **s.spec, "passages": s.passages, "bytes": s.bytes} for s in stored])
    elif stored:
        rows = [
            (
                s.folder.name,
                s.spec.get("base", "broken"),
                s.spec.get("adapter_sha256", "")[:SHORT],
                s.spec.get("pooling", ""),
                s.passages,
                round(s.bytes / MEGABYTE, 1),
            )
            for s in stored
        ]
        show.table("", ("id", "encoder", "adapter", "vectors", "passages", "MB"), rows)
    else:
        click.echo("no vectors yet; make them with: kard encodings fill")


@encodings.command()
@options.vectors
@options.knowledge
@options.store
@choose.working_options
@options.quiet
def fill(
    encoder: str | None,
    knowledge: Path | None,
    store: Path,
    worker_count: int | None,
    ray_address: str | None,
    quiet: bool,
) -> None:
    """Encode every passage that has no vector yet.

    A stopped run goes on where it was. Each of several workers loads the encoder.
    """
    from kard.knowledge.knowledge_base import KnowledgeBase
    from kard.retrieval.dense import DenseSearch, named_encoder

    kb = KnowledgeBase.open(options.knowledge_of(store, knowledge))
    dense = DenseSearch(kb, named_encoder(encoder, store, adapters_folder(store)).embedder)
    added = dense.fill(show.progress(quiet), choose.workers_of(worker_count, ray_address))
    click.echo(f"{added:,} passages encoded, {len(dense.encodings):,} in {dense.encodings.folder}")


@encodings.command()
@click.argument("ids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Drop all of them.")
@options.knowledge
@options.store
def drop(ids: tuple[str, ...], every: bool, knowledge: Path | None, store: Path) -> None:
    """Delete vectors by the ids that `kard encodings` lists.

    No run may be using them.
    """
    from kard.encoders.vectors import list_encodings
    from kard.errors import Missing

    if every == bool(ids):
        raise click.UsageError("name the ids to drop, or --all")
    stored = {s.folder.name: s for s in list_encodings(options.knowledge_of(store, knowledge))}
    if unknown := [name for name in ids if name not in stored]:
        raise Missing(f"no vectors {unknown[0]!r}; list them with: kard encodings")
    for name in stored if every else dict.fromkeys(ids):
        shutil.rmtree(stored[name].folder)
        click.echo(f"dropped {name}: {stored[name].bytes / MEGABYTE:.1f} MB")
