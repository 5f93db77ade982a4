"""`kard encodings`: the vectors that lie beside a knowledge base."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from kard.cli import options, show
from kard.files import adapters_folder

MEGABYTE = 1_000_000
SHORT = 12  # hex digits of a hash that a table shows


@click.group(invoke_without_command=True)
@options.knowledge
@options.store
@options.as_json
@click.pass_context
def encodings(ctx: click.Context, knowledge: Path | None, store: Path, as_json: bool) -> None:
    """List the passages' vectors that lie beside the knowledge base: by which encoder, how many, how large.

    Reranking and dense search make them as they need them, once for every run. They are never stale, and what is
    dropped is made again.
    """
    if ctx.invoked_subcommand is not None:
        return
    from kard.encoders.vector_store import kept

    found = kept(options.knowledge_of(store, knowledge))
    if as_json:
        show.as_json([{"id": k.folder.name, **k.maker, "passages": k.passages, "bytes": k.bytes} for k in found])
        return
    if not found:
        click.echo("no vectors yet; make them with: kard encodings fill")
        return
    rows = [
        (
            kept.folder.name,
            kept.maker.get("base", "broken"),
            kept.maker.get("adapter_sha256", "")[:SHORT],
            kept.maker.get("pooling", ""),
            kept.passages,
            round(kept.bytes / MEGABYTE, 1),
        )
        for kept in found
    ]
    show.table("", ("id", "encoder", "adapter", "vectors", "passages", "MB"), rows)


@encodings.command()
@options.vectors
@options.knowledge
@options.store
@options.quiet
def fill(encoder: str | None, knowledge: Path | None, store: Path, quiet: bool) -> None:
    """Encode every passage of the knowledge base that has no vector yet. Stopped, it goes on from there later."""
    from kard.knowledge.knowledge_base import KnowledgeBase
    from kard.retrieval.dense import DenseSearch, named_encoder

    kb = KnowledgeBase.open(options.knowledge_of(store, knowledge))
    dense = DenseSearch(kb, named_encoder(encoder, store, adapters_folder(store)).embedder)
    added = dense.fill(show.progress(quiet))
    click.echo(f"{added:,} passages encoded, {len(dense.encodings):,} in {dense.encodings.folder}")


@encodings.command()
@click.argument("ids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Drop all of them.")
@options.knowledge
@options.store
def drop(ids: tuple[str, ...], every: bool, knowledge: Path | None, store: Path) -> None:
    """Delete vectors by the ids that `kard encodings` lists. No run may be using them."""
    from kard.encoders.vector_store import kept
    from kard.errors import Missing

    if every == bool(ids):
        raise click.UsageError("name the ids to drop, or --all")
    there = {k.folder.name: k for k in kept(options.knowledge_of(store, knowledge))}
    if unknown := [i for i in ids if i not in there]:
        raise Missing(f"no vectors {unknown[0]!r}; list them with: kard encodings")
    for name in there if every else dict.fromkeys(ids):
        shutil.rmtree(there[name].folder)
        click.echo(f"dropped {name}: {there[name].bytes / MEGABYTE:.1f} MB")
