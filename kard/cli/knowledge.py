"""`kard index` and `kard search`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from kard.cli import options, show


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@options.knowledge
@options.store
@click.option(
    "--words", type=click.IntRange(min=10), default=100, show_default=True, help="Words of a passage, about."
)
@click.option("--name", default="", help="What the source is called. [default: its path]")
@options.quiet
def index(source: Path, knowledge: Path | None, store: Path, words: int, name: str, quiet: bool) -> None:
    """Bring the knowledge base to what SOURCE says: passages that are new come in, those that have gone go out.

    SOURCE is JSON lines with id, title and text (also BEIR's, PubMed's and Hugging Face's column names; also CSV,
    also gzipped), parquet (one file or a folder), a folder of .txt and .md files, or a MediaWiki dump
    (.xml, .xml.bz2). A second SOURCE stands beside the first.
    """
    from kard.db import open_store
    from kard.knowledge.base import KnowledgeBase
    from kard.knowledge.indexing import index_source
    from kard.knowledge.retrieve import record_index

    started = time.monotonic()
    folder = options.knowledge_of(store, knowledge)
    done = index_source(source, folder, progress=show.progress(quiet), words=words, name=name)
    record_index(open_store(store), KnowledgeBase.open(folder))
    click.echo(
        f"{done.added:,} passages added, {done.removed:,} removed, {done.kept:,} kept; "
        f"{done.passages:,} in {folder} ({time.monotonic() - started:.1f} s)"
    )


@click.command()
@click.argument("text")
@click.option("-n", "number", type=click.IntRange(min=1), default=5, show_default=True, help="Passages to show.")
@options.knowledge
@options.store
@options.as_json
def search(text: str, number: int, knowledge: Path | None, store: Path, as_json: bool) -> None:
    """Show the passages that TEXT finds by BM25. Any text will do: a question, or a whole rationale."""
    from kard.knowledge.base import KnowledgeBase

    hits = KnowledgeBase.open(options.knowledge_of(store, knowledge)).search(text, number)
    if as_json:
        show.as_json(
            [
                {
                    "rank": hit.rank,
                    "bm25": hit.bm25,
                    "id": hit.passage.id,
                    "document": hit.passage.document,
                    "part": hit.passage.part,
                    "title": hit.passage.title,
                    "text": hit.passage.text,
                }
                for hit in hits
            ]
        )
        return
    if not hits:
        click.echo("No passage holds any of these words.")
        return
    header = ("rank", "bm25", "title", "document", "passage")
    rows = [(h.rank, round(h.bm25, 2), h.passage.title, h.passage.document, snippet(h.passage.text)) for h in hits]
    show.table("", header, rows)


def snippet(text: str, characters: int = 120) -> str:
    """The text's beginning on one line, cut between words."""
    line = " ".join(text.split())
    return line if len(line) <= characters else line[: characters - 1].rsplit(" ", 1)[0] + "…"
