"""`kard index`, `kard search` and `kard measure`: the knowledge base."""

from __future__ import annotations

import time
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
from click.core import ParameterSource

from kard.cli import choose, options, show
from kard.cli.load import count, next_command
from kard.cli.rows import MACHINE_FORMS, print_records, print_rows
from kard.files import adapters_folder
from kard.knowledge.analysis import LANGUAGES

if TYPE_CHECKING:
    from kard.api.knowledge import Knowledge, Mode
    from kard.records import Hit
    from kard.work.workers import Workers

NAMED = 10  # files that are named
SNIPPET = 120  # characters of a passage in a table


@click.command()
@click.argument("source", type=click.Path(path_type=Path), required=False)
@click.option("--lines", is_flag=True, help="Make each line of a text file a passage.")
@click.option("--list", "listing", is_flag=True, help="List the sources.")
@click.option("--remove", metavar="NAME", help="Remove the source of that name.")
@click.option("--refresh", is_flag=True, help="Read every source again, as it was read before.")
@click.option(
    "--from", "base", type=click.Path(file_okay=False, path_type=Path), help="Take a part of this knowledge base."
)
@click.option(
    "--fraction",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="Share of its documents, drawn at random; those of .1 are among those of .3.",
)
@click.option("--only", multiple=True, metavar="NAME", help="Of this source alone; repeatable.")
@click.option("--keep-evidence", is_flag=True, help="Keep every document that a question of the store needs, too.")
@options.knowledge
@options.store
@click.option("--repair", is_flag=True, help="Make a damaged knowledge base whole first; SOURCE may be left out.")
@click.option(
    "--language",
    type=click.Choice(LANGUAGES),
    help="Whose word stems count as equal; recorded. [default: that of the knowledge base, english for a new one]",
)
@click.option(
    "--words",
    type=click.IntRange(min=10),
    default=100,
    show_default=True,
    help="Words of a passage, about.",
)
@click.option("--skip-bad", is_flag=True, help="Leave out files of a folder that cannot be read, and name them.")
@click.option("--name", default="", help="Name of the source in the knowledge base. [default: its path]")
@choose.working_options
@options.quiet
@click.pass_context
def index(
    ctx: click.Context,
    source: Path | None,
    lines: bool,
    listing: bool,
    remove: str | None,
    refresh: bool,
    base: Path | None,
    fraction: float,
    only: tuple[str, ...],
    keep_evidence: bool,
    knowledge: Path | None,
    store: Path,
    repair: bool,
    language: str | None,
    words: int,
    skip_bad: bool,
    name: str,
    worker_count: int | None,
    ray_address: str | None,
    quiet: bool,
) -> None:
    """Bring the knowledge base up to date with SOURCE.

    New passages are added, and passages that SOURCE no longer has are removed. SOURCE is JSON lines with id, title
    and text (also BEIR's, PubMed's and Hugging Face's column names; also CSV, also gzipped), parquet (one file or
    a folder), a folder of .txt, .md, .html and .pdf files or one that holds corpus.jsonl, or a MediaWiki dump
    (.xml, .xml.bz2). A second SOURCE is kept beside the first. A search meanwhile finds what was there before.
    With --from, a part of another knowledge base is taken into a folder of its own, to compare sizes and kinds.
    Several --workers pay for dumps and folders, whose pages they read, and where passages are removed. The result
    is the same. With --ray, every machine must see the knowledge base under one path, and a SOURCE of files too.
    """
    chosen = sum((source is not None, listing, remove is not None, refresh, base is not None))
    if chosen != 1 and not (repair and chosen == 0):
        raise click.UsageError(
            "name a SOURCE, or choose one of --list, --remove NAME, --refresh, --from and --repair"
        )
    if base is None and (fraction < 1 or only or keep_evidence):
        raise click.UsageError(
            "--fraction, --only and --keep-evidence say what is taken of a knowledge base; add --from"
        )
    for option in ("lines", "words", "skip_bad", "name") if source is None else ():
        if ctx.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{option.replace('_', '-')} says how SOURCE is read; name one")
    if language and source is None and not repair:
        raise click.UsageError("name a SOURCE along with --language, or --repair")
    from kard.db import open_store
    from kard.knowledge import repair as mending
    from kard.knowledge.indexing import index_source
    from kard.knowledge.knowledge_base import KnowledgeBase
    from kard.retrieval.retrieve import record_index

    beside = None if listing else choose.workers_of(worker_count, ray_address)
    begin = time.monotonic()
    folder = options.knowledge_of(store, knowledge)
    progress = show.progress(quiet)
    if base is not None:
        from kard.knowledge.part import index_part
        from kard.retrieval.retrieve import needed_documents

        kept = needed_documents(open_store(store)) if keep_evidence else ()
        part = index_part(base, folder, only=only, fraction=fraction, kept=kept, progress=progress, workers=beside)
        record_index(open_store(store), KnowledgeBase.open(folder))
        click.echo(f"{part.passages:,} passages in {folder} ({time.monotonic() - begin:.1f} s)")
        return
    if repair:
        mended = mending.repair(folder, language=language or "", progress=progress, workers=beside)
        lost = "an unknown number" if mended.lost is None else f"{mended.lost:,}"
        click.echo(f"{mended.passages:,} passages kept, {lost} lost; their postings are written again")
        if mended.sources:
            click.echo(f"index these again: {', '.join(mended.sources)}")
    if source is None:
        if chosen:
            _change_sources(folder, remove, refresh, quiet, beside)
        if not listing:
            record_index(open_store(store), KnowledgeBase.open(folder))
        return
    indexed = index_source(
        source,
        folder,
        progress=progress,
        words=words,
        name=name,
        lines=lines,
        language=language or "",
        skip_bad=skip_bad,
        workers=beside,
    )
    _print_left_out(source, folder, name)
    db = open_store(store)
    record_index(db, KnowledgeBase.open(folder))
    if source.suffix.lower() == ".txt" and not lines:
        click.echo(f"a passage holds about {words} words; for one a line: kard index {source} --lines", err=True)
    click.echo(
        f"{count(indexed.added, 'passage')} added, {indexed.removed:,} removed, {indexed.unchanged:,} kept; "
        f"{indexed.passages:,} in {folder} ({time.monotonic() - begin:.1f} s)"
    )
    task = db.execute("select task from questions order by id desc limit 1").fetchone()
    options.propose("Next", next_command(db, task[0], task[0]) if task else "kard load TASK FILE")


def _print_left_out(source: Path, folder: Path, name: str) -> None:
    """Say which files of a folder brought nothing, and why."""
    from contextlib import closing

    from kard.knowledge import passages_db
    from kard.knowledge.sources import left_out

    with closing(passages_db.connect(folder / passages_db.NAME)) as db:
        documents = set(passages_db.documents_of(db, [name or str(source.resolve())]))
    if files := left_out(source, documents):
        more = f", and {len(files) - NAMED:,} more" if len(files) > NAMED else ""
        click.echo(f"{count(len(files), 'file')} left out: {', '.join(files[:NAMED])}{more}", err=True)


def _change_sources(folder: Path, remove: str | None, refresh: bool, quiet: bool, workers: Workers | None) -> None:
    """Remove a source, read all of them again, or list them."""
    from kard.knowledge.stored_sources import list_sources, refresh_sources, remove_source

    progress = show.progress(quiet)
    if remove is not None:
        indexed = remove_source(folder, remove, progress=progress, workers=workers)
        click.echo(f"{count(indexed.removed, 'passage')} removed; {indexed.passages:,} in {folder}")
    elif refresh:
        for source, indexed in refresh_sources(folder, progress=progress, workers=workers):
            numbers = indexed and f"{count(indexed.added, 'passage')} added, {indexed.removed:,} removed"
            click.echo(f"{source.name}: {numbers or 'not there any more; kept as it is'}")
    else:
        rows = [(s.name, s.passages, s.path, "a line each" if s.lines else s.words) for s in list_sources(folder)]
        show.table("", ("source", "passages", "path", "words"), rows)


@click.command()
@click.argument("text")
@click.option(
    "--retriever",
    type=click.Choice(["bm25", "dense", "hybrid"]),
    default="bm25",
    show_default=True,
    help="Search by words, by vectors, or by both.",
)
@click.option("-n", "number", type=click.IntRange(min=1), default=5, show_default=True, help="Passages to show.")
@click.option(
    "--max-df",
    type=click.FloatRange(0, 1, min_open=True),
    help="Drop terms that more of the passages have. [default: 0.05, none below 100,000 passages]",
)
@click.option("--exact", is_flag=True, help="Search with every term: --max-df 1.")
@options.vectors
@options.knowledge
@options.store
@options.forms("json", "nl", "csv")
def search(
    text: str,
    retriever: str,
    number: int,
    max_df: float | None,
    exact: bool,
    encoder: str | None,
    knowledge: Path | None,
    store: Path,
    form: str,
) -> None:
    """Show the passages that TEXT finds, with the words of TEXT that they hold.

    Any text will do: a question, or a whole rationale. `dense` and `hybrid` need a vector of every passage. A small
    knowledge base is encoded at once; encode a large one with `kard encodings fill`.
    """
    from kard.config import Retrieval
    from kard.knowledge.knowledge_base import KnowledgeBase
    from kard.retrieval.live import LiveRetriever, dense_retriever, require_vectors

    if exact and max_df is not None:
        raise click.UsageError("choose --max-df or --exact, not both")
    if retriever == "dense" and (exact or max_df is not None):
        raise click.UsageError("dense search has no terms to drop; leave --max-df and --exact out")
    share = 1.0 if exact else max_df
    settings = Retrieval() if share is None else Retrieval(max_df=share, max_df_from=0)
    kb = KnowledgeBase.open(options.knowledge_of(store, knowledge))
    live = LiveRetriever(kb, None, settings)
    if retriever != "bm25":
        from kard.tasks import ENCODER_BASE

        require_vectors(kb, encoder or ENCODER_BASE)
        from kard.retrieval.dense import named_encoder

        chosen_encoder = named_encoder(encoder, store, adapters_folder(store))
        live = dense_retriever(kb, chosen_encoder, settings, hybrid=retriever == "hybrid")
    hits = live.search(text, number)
    max_df = settings.max_df_among(kb.count)
    words = [" ".join(found) for found in kb.matched_words(text, [hit.passage for hit in hits], max_df=max_df)]
    if form in MACHINE_FORMS:
        print_records(form, [_record(hit, found) for hit, found in zip(hits, words, strict=True)])
    elif hits:
        scores = ("bm25",) if retriever == "bm25" else ("score", "bm25")
        rows = [
            (h.rank, *_scores(h), found, h.passage.title, h.passage.document, snippet(h.passage.text))
            for h, found in zip(hits, words, strict=True)
        ]
        show.table("", ("rank", *scores, "words", "title", "document", "passage"), rows)
    else:
        click.echo("No passage holds any of these words.")


def _record(hit: Hit, words: str) -> dict[str, object]:
    return {
        "rank": hit.rank,
        "bm25": None if isnan(hit.bm25) else hit.bm25,
        **({} if hit.score is None else {"score": hit.score}),
        "words": words,
        **asdict(hit.passage),
    }


def _scores(hit: Hit) -> tuple[float | None, ...]:
    """Return the score that ordered the hits, if it is not BM25, and BM25 where it is known."""
    bm25 = None if isnan(hit.bm25) else round(hit.bm25, 2)
    return (bm25,) if hit.score is None else (round(hit.score, 4), bm25)


def snippet(text: str, characters: int = SNIPPET) -> str:
    """Return the beginning of a text on one line, cut between words."""
    line = " ".join(text.split())
    return line if len(line) <= characters else line[: characters - 1].rsplit(" ", 1)[0] + "…"


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--retriever",
    "retrievers",
    callback=choose.listed,
    default="bm25",
    show_default=True,
    help="Searches to measure, comma-separated: bm25, dense, hybrid.",
)
@click.option("--split", default="test", show_default=True, help="Whose judgements: the file qrels/SPLIT.tsv.")
@options.vectors
@options.knowledge
@options.store
@options.quiet
@options.forms("json", "csv", "markdown")
def measure(
    folder: Path,
    retrievers: tuple[str, ...],
    split: str,
    encoder: str | None,
    knowledge: Path | None,
    store: Path,
    quiet: bool,
    form: str,
) -> None:
    """Measure searches on a data set in BEIR's published files.

    FOLDER holds corpus.jsonl, which `kard index` reads, queries.jsonl and qrels/. A document has the rank of its
    best passage. `dense` and `hybrid` need a vector of every passage: `kard encodings fill` makes them.
    """
    from kard.api.knowledge import MODES, open_knowledge
    from kard.api.measure import measure as measure_search
    from kard.knowledge.knowledge_base import KnowledgeBase
    from kard.retrieval.live import require_vectors
    from kard.tasks import ENCODER_BASE

    if unknown := [name for name in retrievers if name not in MODES]:
        raise click.UsageError(f"no search {unknown[0]!r}; there are {', '.join(MODES)}")
    place = options.knowledge_of(store, knowledge)
    if retrievers != ("bm25",):  # said before the words have been measured
        require_vectors(KnowledgeBase.open(place), encoder or ENCODER_BASE)
    base = open_knowledge(place, encoder=encoder, store=store)
    progress = show.progress(quiet)
    rows = [
        {"retriever": mode, **measure_search(_Search(base, mode), folder, split=split, progress=progress)}
        for mode in MODES
        if mode in retrievers
    ]
    if form in MACHINE_FORMS:
        print_records(form, rows)
    else:
        cells = [[round(cell, 4) if isinstance(cell, float) else cell for cell in row.values()] for row in rows]
        print_rows(form, list(rows[0]), cells)


class _Search(NamedTuple):
    """One mode of searching a knowledge base, as `kard.measure` takes it."""

    knowledge: Knowledge
    mode: Mode

    def find(self, query: str, k: int | None = None) -> list[Hit]:
        return self.knowledge.search(query, k or 1, self.mode)
