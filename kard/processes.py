"""Processes of this machine: whose something is, how many threads each may have, what memory it keeps."""

from __future__ import annotations

import gc
import os
import sys
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from math import ceil
from pathlib import Path
from socket import gethostname

POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
"""Read by torch, numpy and the tokenizers when they are imported, and never again."""
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h
_TOP_PAD = 1 << 26  # bytes


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


def available(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many threads can run at a time: by the affinity mask and by the quota of the control group.

    `groups` names the control groups of this process, which are folders below `root`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(root, groups)
    return max(1, min(cores, ceil(quota))) if quota else cores


def limit(count: int | None) -> None:
    """Give every library `count` threads, None for as many as are available; call it before they are imported.

    A number that the environment has for a library stays, unless `count` is given. Threads that wait do not spin,
    since they would spin on the cores of other processes.
    """
    for name in POOLS:
        if count or name not in os.environ:
            os.environ[name] = str(count or available())
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _quota(root: Path, groups: Path) -> float | None:
    """Return the least quota, in processors, of this process's control groups, None without one."""
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found: list[float] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2: one tree, whose inner groups limit too
            own = root / path.lstrip("/")
            found += [_of_file(group / "cpu.max") for group in (own, *own.parents) if group.is_relative_to(root)]
        elif "cpu" in controllers.split(","):
            for group in (root / controllers / path.lstrip("/"), root / "cpu" / path.lstrip("/"), root / "cpu"):
                found.append(_ratio(_number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")))
    found = [quota for quota in found if quota > 0]
    return min(found, default=None)


def _of_file(file: Path) -> float:
    """Return the quota of a `cpu.max` like '150000 100000', 0 for 'max' and for no such file."""
    try:
        quota, period = file.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return 0.0
    return 0.0 if quota == "max" else _ratio(float(quota), float(period))


def _number(file: Path) -> float:
    try:
        return float(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0.0


def _ratio(quota: float, period: float) -> float:
    return quota / period if quota > 0 and period > 0 else 0.0


@cache
def keep_memory() -> None:
    """Let glibc keep freed memory for the next tensor, for the rest of the process.

    By default each tensor of more than a few hundred kilobytes gets fresh pages, which the kernel zeroes one fault
    at a time. An element-wise result of 5 MB took 7.7 ms that way, and about 0.5 ms in memory that was kept.
    """
    if mallopt := _glibc("mallopt"):
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, _TOP_PAD)


def release_memory() -> None:
    """Give back what `keep_memory` holds: what comes next needs it in other sizes, and would take as much again."""
    gc.collect()
    if trim := _glibc("malloc_trim"):
        trim(0)


def _glibc(name: str) -> Callable[..., int] | None:
    """Return a function of glibc, None where the C library is another one."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    return getattr(ctypes.CDLL(None), name, None)
