"""Jobs for the tests of workers: a process that is started imports their module by its name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from kard.errors import BadInput
from kard.work.workers import Shared


def double(job: int, shared: Shared) -> tuple[int, str]:
    assert isinstance(shared, Path)
    return 2 * job, f"{shared.read_text()} {os.environ['OMP_NUM_THREADS']}"


def die_once(job: int, shared: Shared) -> int:
    """Kill this process where the job is the third one, the first time."""
    assert isinstance(shared, Path)
    mark = shared.with_name("died")
    if job == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def die(job: int, shared: Shared) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return job


def fail_first(job: int, shared: Shared) -> int:
    if job == 0:
        raise BadInput("holds nothing")
    time.sleep(0.5)
    return job


def refuse(job: int, shared: Shared) -> int:
    raise BadInput("holds nothing; name another", at=f"file:{job}")


def wait_for_ever(job: int, shared: Shared) -> None:
    assert isinstance(shared, Path)
    shared.with_name(f"{job}.pid").write_text(str(os.getpid()))
    time.sleep(600)
