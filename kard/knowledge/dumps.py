"""Articles out of a MediaWiki XML dump, with the extra `wiki`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kard.records import Document


def dump_pages(path: Path) -> Iterator[tuple[object, Document]]:
    """Every article."""
    raise NotImplementedError(path)
    yield
