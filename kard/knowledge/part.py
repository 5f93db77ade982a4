"""Make a smaller knowledge base of one: of some sources, or of a random share of the documents."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing, suppress
from pathlib import Path

from kard.errors import BadInput
from kard.knowledge import passages_db
from kard.knowledge.indexing import Indexed, index_passages, language_of
from kard.knowledge.stored_sources import list_sources
from kard.progress import SILENT, Progress
from kard.records import digest
from kard.work.workers import Workers

BATCH = 500  # documents


def index_part(
    base: Path,
    folder: Path,
    *,
    only: Sequence[str] = (),
    fraction: float = 1.0,
    kept: Collection[str] = (),
    progress: Progress = SILENT,
    workers: Workers | None = None,
) -> Indexed:
    """Bring `folder` to a share of the base's documents, rounded, with all their passages.

    The share is of the sources `only`, or of all; documents that are `kept` come besides. A smaller share is a part
    of a larger one. Raises BadInput for a name that is no source, or where `folder` holds anything else.
    """
    sources = [source.name for source in list_sources(base)]
    if unknown := [name for name in only if name not in sources]:
        raise BadInput(f"no source {unknown[0]!r}; there are {', '.join(sources)}", at=str(base))
    of = f"{100 * fraction:g}% of the documents of {', '.join(only) or base.resolve().name}"
    name = f"{of}, evidence kept" if kept else of
    if others := [other for other in _names(folder) if other != name]:
        raise BadInput(f"holds {', '.join(others)}; make each part in a folder of its own", at=str(folder))
    with closing(passages_db.connect(base / passages_db.NAME)) as db:
        passages_db.show_current(db)
        documents = passages_db.documents_of(db, only or sources)
        drawn = sorted(documents, key=lambda document: digest("part", document))[: round(fraction * len(documents))]
        needed = kept and set(kept).intersection(passages_db.documents_of(db, sources))
        wanted = sorted({*drawn, *needed})
        batches = (wanted[i : i + BATCH] for i in range(0, len(wanted), BATCH))
        passages = (p for batch in batches for p in passages_db.passages_where(db, "document", batch).values())
        return index_passages(
            passages, folder, source=name, progress=progress, language=language_of(base), workers=workers
        )


def _names(folder: Path) -> list[str]:
    """Return the names of the sources in a folder, which may be half-written or none."""
    if not (folder / passages_db.NAME).exists():
        return []
    with closing(passages_db.connect(folder / passages_db.NAME)) as db, suppress(sqlite3.OperationalError):
        return [name for name, _, _ in passages_db.origins(db)]
    return []  # of a run that was killed before it wrote a table
