"""Make a smaller knowledge base of one: of some sources, or of a random share of the documents."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path

from kard.errors import BadInput
from kard.knowledge import passages_db
from kard.knowledge.indexing import Indexed, index_passages, language_of
from kard.knowledge.stored_sources import list_sources
from kard.progress import SILENT, Progress
from kard.records import digest

BATCH = 500  # documents


def index_part(
    base: Path,
    folder: Path,
    *,
    only: Sequence[str] = (),
    fraction: float = 1.0,
    kept: Collection[str] = (),
    progress: Progress = SILENT,
) -> Indexed:
    """Bring `folder` to a share of the base's documents, rounded, with all their passages.

    The share is of the sources `only`, or of all; documents that are `kept` come besides. A smaller share is a part
    of a larger one. Raises BadInput for a name that is no source, or where `folder` holds anything else.
    """
    sources = [source.name for source in list_sources(base)]
    if unknown := [name for name in only if name not in sources]:
        raise BadInput(f"no source {unknown[0]!r}; there are {', '.join(sources)}", at=str(base))
    of = f"{100 * fraction:.3g}% of the documents of {', '.join(only) or base.name}"
    name = f"{of}, evidence kept" if kept else of
    if folder.exists() and (others := [s.name for s in list_sources(folder) if s.name != name]):
        raise BadInput(f"holds {', '.join(others)}; make each part in a folder of its own", at=str(folder))
    with closing(passages_db.connect(base / passages_db.NAME)) as db:
        passages_db.show_current(db)
        documents = passages_db.documents_of(db, only or sources)
        drawn = sorted(documents, key=lambda document: digest("part", document))[: round(fraction * len(documents))]
        wanted = sorted({*drawn, *(document for document in documents if document in kept)})
        batches = (wanted[i : i + BATCH] for i in range(0, len(wanted), BATCH))
        passages = (p for batch in batches for p in passages_db.passages_where(db, "document", batch).values())
        return index_passages(passages, folder, source=name, progress=progress, language=language_of(base))
