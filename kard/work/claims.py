"""Claims on work: of several processes that share a store, one buys or makes each thing.

A claim is a row with an owner and an end. It is renewed while its owner lives, and dropped when the work is done. A
killed process's claims end by themselves, and at once for processes of the same machine.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from kard.db import BUSY_MILLISECONDS, execute, rows, writing
from kard.processes import has_ended, machine

if TYPE_CHECKING:
    from sqlite_utils import Database

LEASE = 120.0  # seconds until a claim ends that nobody renews: several times as long as a writer waits for another
RENEWED = 15.0  # seconds between two renewals
POLL = 0.5  # seconds between two looks at work that another process has claimed


class Claims:
    """The claims of one process on work of one kind, from `with` to its end."""

    def __init__(self, db: Database, kind: str) -> None:
        self._db, self._kind, self._owner = db, kind, _owner()
        self._ended = threading.Event()

    def take(self, keys: Sequence[str]) -> set[str]:
        """Claim what no living process has claimed; return the keys that are this owner's now."""
        with writing(self._db):
            owners = {str(row["owner"]) for row in rows(self._db, "internal/claim_owners", kind=self._kind)}
            values = {"kind": self._kind, "owner": self._owner, "keys": list(keys)}
            dead = [owner for owner in owners if _is_dead(owner)]
            now = time.time()
            execute(self._db, "internal/take_claims", **values, expires=now + LEASE, now=now, dead=dead)
            return {str(row["key"]) for row in rows(self._db, "internal/own_claims", **values)}

    def wait(self, keys: Sequence[str]) -> set[str]:
        """Claim some of these keys as soon as others leave them; return those that are this owner's now."""
        while not (own := self.take(keys)):
            time.sleep(POLL)
        return own

    def take_missing(self, keys: Sequence[str], stored: Callable[[], Collection[str]]) -> tuple[set[str], set[str]]:
        """Claim what the store lacks by now; return the keys that are this owner's, and those of others."""
        with writing(self._db):
            missing = set(keys).difference(stored())
            own = self.take(sorted(missing))
        return own, missing - own

    def release(self) -> None:
        """Give up every claim of this owner."""
        with writing(self._db):
            self._db.execute("delete from claims where kind = ? and owner = ?", [self._kind, self._owner])

    def __enter__(self) -> Claims:
        file = next(row[2] for row in self._db.execute("pragma database_list").fetchall() if row[1] == "main")
        if file:  # a database in memory belongs to one process
            threading.Thread(target=self._renew, args=(file,), name="claims", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with suppress(sqlite3.Error):  # they end by themselves
            self.release()

    def _renew(self, file: str) -> None:
        while not self._ended.wait(RENEWED):
            with (
                suppress(sqlite3.Error),
                closing(sqlite3.connect(file, timeout=BUSY_MILLISECONDS / 1000)) as db,
                db,
            ):
                end = time.time() + LEASE
                db.execute(
                    "update claims set expires = ? where kind = ? and owner = ?", (end, self._kind, self._owner)
                )


@contextmanager
def claimed(db: Database, kind: str, key: str, waiting: Callable[[], object]) -> Generator[bool]:
    """Claim one piece of work; the context's value is whether that took time.

    While another process has it, call `waiting` once, and wait. Look afterwards whether the work is done.
    """
    with Claims(db, kind) as claims:
        free = bool(claims.take([key]))
        if not free:
            waiting()
            claims.wait([key])
        yield not free


def _owner() -> str:
    """Return a name for this process and one use: machine and process space, number of the process, a random part.

    The processes of one distributed training are one owner.
    """
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    return f"{machine()} {os.getppid() if run else os.getpid()} {run or uuid4().hex}"


def _is_dead(owner: str) -> bool:
    """Return whether the owner was a process of this machine that has ended."""
    place, process, _ = owner.split(" ")
    return place == machine() and has_ended(int(process))
