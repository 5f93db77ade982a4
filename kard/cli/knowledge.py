"""`kard index` and `kard search`."""

from __future__ import annotations

import time
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import options, show
from kard.files import adapters_folder

if TYPE_CHECKING:
    from kard.records import Hit


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
    from kard.knowledge.indexing import index_source
    from kard.knowledge.knowledge_base import KnowledgeBase
    from kard.retrieval.retrieve import record_index

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
@click.option("--dense", "kind", flag_value="dense", help="Search by vectors instead.")
@click.option("--hybrid", "kind", flag_value="hybrid", help="Search by both.")
@options.vectors
@options.knowledge
@options.store
@options.as_json
def search(
    text: str,
    number: int,
    kind: str | None,
    encoder: str | None,
    knowledge: Path | None,
    store: Path,
    as_json: bool,
) -> None:
    """Show the passages that TEXT finds by BM25. Any text will do: a question, or a whole rationale.

    --dense and --hybrid need a vector of every passage: a small base gets them at once, a large one by
    `kard encodings fill`.
    """
    from kard.knowledge.knowledge_base import KnowledgeBase

    kb = KnowledgeBase.open(options.knowledge_of(store, knowledge))
    if kind is None:
        hits = kb.search(text, number)
    else:
        from kard.retrieval.dense import named_encoder
        from kard.retrieval.live import dense_retriever

        named = named_encoder(encoder, store, adapters_folder(store))
        hits = dense_retriever(kb, named, hybrid=kind == "hybrid").search(text, number)
    if as_json:
        show.as_json(
            [
                {
                    "rank": hit.rank,
                    "bm25": None if isnan(hit.bm25) else hit.bm25,
                    **({} if hit.score is None else {"score": hit.score}),
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
    told = [(h.rank, *_scores(h), h.passage.title, h.passage.document, snippet(h.passage.text)) for h in hits]
    scores = ("bm25",) if kind is None else ("score", "bm25")
    show.table("", ("rank", *scores, "title", "document", "passage"), told)


def _scores(hit: Hit) -> tuple[float | None, ...]:
    """What ordered the hits, and BM25 where it is known."""
    bm25 = None if isnan(hit.bm25) else round(hit.bm25, 2)
    return (bm25,) if hit.score is None else (round(hit.score, 4), bm25)


def snippet(text: str, characters: int = 120) -> str:
    """The text's beginning on one line, cut between words."""
    line = " ".join(text.split())
    return line if len(line) <= characters else line[: characters - 1].rsplit(" ", 1)[0] + "…"
