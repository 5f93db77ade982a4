"""Read passages from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from kard.db import rows
from kard.records import Passage

if TYPE_CHECKING:
    from sqlite_utils import Database

Read = TypeVar("Read")


def read_passages(db: Database, ids: Sequence[str]) -> dict[str, Passage]:
    """Return passages by id. Ids that the store lacks are left out."""
    return {
        str(row["id"]): Passage(
            id=row["id"], document=row["document"], part=row["part"], title=row["title"], text=row["text"]
        )
        for row in rows(db, "internal/passages", ids=list(ids))
    }


def shuffled(read: Mapping[int, Read]) -> dict[int, Read]:
    """Return each question with what the question half of them away reads.

    No question keeps its own if there are at least two.
    """
    ids = sorted(read)
    half = len(ids) // 2
    return {id: read[ids[(i + half) % len(ids)]] for i, id in enumerate(ids)}
