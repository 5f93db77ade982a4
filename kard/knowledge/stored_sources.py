"""The sources that a knowledge base was made of: list them, remove one, read all of them again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kard.errors import BadInput
from kard.knowledge import passages_db
from kard.knowledge.indexing import Indexed, index_documents, index_source
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.progress import SILENT, Progress
from kard.work.workers import Workers


@dataclass(frozen=True, slots=True)
class StoredSource:
    """A source, and where and how it was read; `path` is '' for documents that came from no file."""

    name: str
    passages: int
    path: str
    words: int
    lines: bool
    skip_bad: bool


def list_sources(folder: Path) -> list[StoredSource]:
    """Return the sources of a knowledge base in the order in which they came. Raises Missing if there is none."""
    KnowledgeBase.open(folder).close()
    with closing(passages_db.connect(folder / passages_db.NAME)) as db:
        return [
            StoredSource(
                name,
                passages,
                o.get("path", ""),
                o.get("words", 100),
                o.get("lines", False),
                o.get("skip_bad", False),
            )
            for name, passages, o in passages_db.origins(db)
        ]


def remove_source(
    folder: Path, name: str, *, progress: Progress = SILENT, workers: Workers | None = None
) -> Indexed:
    """Remove what a source brought and no other source has. Raises BadInput for a name that is no source."""
    names = [source.name for source in list_sources(folder)]
    if name not in names:
        raise BadInput(f"no source {name!r}; there are {', '.join(names)}", at=str(folder))
    if len(names) == 1:
        raise BadInput(
            f"{name!r} is the only source; index another one first, or delete the folder", at=str(folder)
        )
    return index_documents((), folder, source=name, progress=progress, origin=None, workers=workers)


def refresh_sources(
    folder: Path, *, progress: Progress = SILENT, workers: Workers | None = None
) -> Iterator[tuple[StoredSource, Indexed | None]]:
    """Index every source again as it was read before, and yield what that did; None where its file is not there."""
    for source in list_sources(folder):
        if not source.path or not Path(source.path).exists():
            yield source, None
            continue
        path, words, lines = Path(source.path), source.words, source.lines
        yield (
            source,
            index_source(
                path,
                folder,
                progress=progress,
                words=words,
                name=source.name,
                lines=lines,
                skip_bad=source.skip_bad,
                workers=workers,
            ),
        )
