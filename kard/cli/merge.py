"""`kard merge`: what another store has and this one lacks."""

from __future__ import annotations

from pathlib import Path

import click

from kard.cli import options


@click.command()
@click.argument("other", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@options.store
def merge(other: Path, store: Path) -> None:
    """Add to the store what the store OTHER has and it lacks.

    Questions, rationales, passages, trained adapters, answers: all of it, once, however often it is joined. OTHER
    is only read; the folder of its adapters must lie beside it. A question that both have must have the same text
    in both. Knowledge bases are folders of their own and are not copied.
    """
    from kard.db import open_store
    from kard.pipeline.merge import merge as merge_stores

    merged = merge_stores(open_store(store), store, other)
    for words in merged.left_out:
        click.echo(words, err=True)
    added = [f"{name.replace('_', ' ')} +{count:,}" for name, count in merged.added.items() if count]
    click.echo(", ".join(added) or f"nothing was missing of {other}")
