"""Read passages from the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kard.db import rows
from kard.records import Passage

if TYPE_CHECKING:
    from sqlite_utils import Database


def read_passages(db: Database, ids: Sequence[str]) -> dict[str, Passage]:
    """Return passages by id. Ids that the store lacks are left out."""
    return {
        str(row["id"]): Passage(
            id=row["id"], document=row["document"], part=row["part"], title=row["title"], text=row["text"]
        )
        for row in rows(db, "internal/passages", ids=list(ids))
    }
