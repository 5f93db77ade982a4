"""Whose something is: processes of this machine that have ended can be told from those that live."""

from __future__ import annotations

import os
import threading
import zlib
from contextlib import suppress
from pathlib import Path
from socket import gethostname


def machine() -> str:
    """Return a name for this machine and its space of process numbers, without blanks."""
    with suppress(OSError):
        return f"{gethostname()}:{Path('/proc/self/ns/pid').readlink()}".replace(" ", "-")
    return gethostname().replace(" ", "-")


def has_ended(process: int) -> bool:
    """Return whether no process of this machine has that number, as far as can be told."""
    if os.name != "posix":  # elsewhere this signal would end it
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def own_mark() -> str:
    """Return a name for this thread that the name of a file can hold: machine, process, thread."""
    return f"{_short_machine()}-{os.getpid()}-{threading.get_ident()}"


def was_left(mark: str) -> bool:
    """Return whether this is the mark of a process of this machine that has ended."""
    place, _, numbers = mark.partition("-")
    process = numbers.partition("-")[0]
    return place == _short_machine() and process.isdecimal() and has_ended(int(process))


def _short_machine() -> str:
    return f"{zlib.crc32(machine().encode()):08x}"
