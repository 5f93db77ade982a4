"""Workers: processes of this machine, or of a Ray cluster, that do jobs beside each other.

A job is done by a function at the top of a module. Where a worker is lost, alone or with its machine, its jobs are
begun again; whoever asked gets each result once.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeVar
from zipfile import ZipFile

from kard.errors import KardError, NoExtra, WorkersFailed

Job = TypeVar("Job")
Result = TypeVar("Result")
Shared = Path | bytes
"""A file that all jobs read: its path where a worker sees the same disk, else its bytes."""
NOTHING = Path(os.devnull)
"""The file of jobs that share none."""

AHEAD = 2  # jobs that are taken for each worker: the next one waits for it
CONNECTED = 10.0  # seconds in which a cluster must answer
ATTEMPTS = 4  # of a job whose workers were lost, before it is thought to be what kills them


class Workers(Protocol):
    """Does jobs beside each other."""

    count: int  # jobs at a time
    elsewhere: bool  # whether they are more than processes of this machine

    def run(
        self, function: Callable[[Job, Shared], Result], jobs: Iterable[Job], shared: Path, *, heavy: bool = False
    ) -> Iterator[tuple[Job, Result]]:
        """Yield each job with what the function returns for it and the shared file, as each ends.

        A job is taken when a worker will soon be free for it. `heavy` jobs run a model. The first error of a job is
        raised when the jobs under way have ended. Raises WorkersFailed for a job that lost its worker again and
        again.
        """
        ...


@contextmanager
def workers(count: int | None, address: str | None) -> Generator[Workers | None]:
    """Start `count` processes, or join the Ray cluster at this address; None where neither was asked for.

    Raises NoExtra if Ray is not installed, WorkersFailed if no cluster answers there.
    """
    if address:
        cluster = _Cluster(address, count)
        try:
            yield cluster
        finally:
            cluster.leave()
    elif count and count > 1:
        processes = _Processes(count)
        try:
            yield processes
        finally:
            processes.stop()
    else:
        yield None


class _Processes:
    """Processes of this machine, which keep what they have loaded from one job to the next."""

    def __init__(self, count: int) -> None:
        self.count, self.elsewhere = count, False
        self._pool: ProcessPoolExecutor | None = None

    def run(
        self, function: Callable[[Job, Shared], Result], jobs: Iterable[Job], shared: Path, *, heavy: bool = False
    ) -> Iterator[tuple[Job, Result]]:
        """Yield each job with its result, as each ends."""
        numbered = enumerate(jobs)
        left: dict[int, Job] = {}  # jobs that were taken and have not ended
        failure: BaseException | None = None
        for _ in range(ATTEMPTS):
            self._pool = pool = self._pool or self._start()
            numbers = {pool.submit(function, job, shared): number for number, job in left.items()}
            try:
                while True:
                    for number, job in islice(numbered, 0 if failure else AHEAD * self.count - len(left)):
                        left[number] = job
                        numbers[pool.submit(function, job, shared)] = number
                    if failure and not numbers:
                        raise failure
                    if not numbers:
                        return
                    for future in wait(numbers, return_when=FIRST_COMPLETED).done:
                        if isinstance(error := future.exception(), BrokenProcessPool):
                            raise error
                        job = left.pop(numbers.pop(future))
                        if error is None:
                            yield job, future.result()
                            continue
                        failure = failure or error
                        for other in [future for future in numbers if future.cancel()]:
                            del left[numbers.pop(other)]
            except BrokenProcessPool:  # one was killed, and the executor has ended the others
                if self._pool is pool:  # else a run within this one has found out first
                    self.stop()
            finally:
                for future in numbers:
                    future.cancel()
        raise lost(len(left))

    def _start(self) -> ProcessPoolExecutor:
        from kard.processes import available

        each = max(1, available() // self.count)
        return ProcessPoolExecutor(self.count, get_context("spawn"), initializer=_prepare, initargs=(each,))

    def stop(self) -> None:
        """End the processes when they have done what they are doing."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _prepare(threads: int) -> None:
    """Make this process a worker: its share of the threads, and an interrupt from the keyboard ends it silently.

    It ends with the process that started it, however that ends.
    """
    from kard import processes

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    processes.limit(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


class _Cluster:
    """The workers of a Ray cluster, on which this kard must be installed. Ray itself begins lost jobs again."""

    def __init__(self, address: str, count: int | None) -> None:
        try:
            import ray
        except ImportError as error:
            raise NoExtra("Ray is not installed; add it with: pip install 'kard[ray]'") from error
        self._ray: Any = ray
        try:
            _require_listener(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ValueError, RuntimeError, OSError) as error:
            problem = " ".join(str(error).split(". ")[0].split())
            raise WorkersFailed(
                f"no Ray cluster answers at {address} ({problem}); start one with: ray start --head"
            ) from error
        resources = ray.cluster_resources()
        processors, self._accelerators = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
        self.count, self.elsewhere = count or processors, True
        self._each = max(1, processors // self.count)

    def run(
        self, function: Callable[[Job, Shared], Result], jobs: Iterable[Job], shared: Path, *, heavy: bool = False
    ) -> Iterator[tuple[Job, Result]]:
        """Yield each job with its result, as each ends."""
        ray = self._ray
        accelerators = 1 if heavy and self._accelerators else 0
        remote = ray.remote(num_cpus=self._each, num_gpus=accelerators, max_retries=ATTEMPTS - 1)(function)
        held = ray.put(shared.read_bytes())
        left = iter(jobs)
        waiting: dict[Any, Job] = {}
        failure: BaseException | None = None
        try:
            while True:
                for job in islice(left, 0 if failure else AHEAD * self.count - len(waiting)):
                    waiting[remote.remote(job, held)] = job
                if failure and not waiting:
                    raise failure
                if not waiting:
                    return
                (reference, *_), _ = ray.wait(list(waiting), num_returns=1)
                job = waiting.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    failure = failure or (error.cause if isinstance(error.cause, KardError) else error)
                    continue
                except ray.exceptions.RayError as error:
                    raise lost(len(waiting) + 1) from error
                yield job, result
        finally:
            for reference in waiting:
                ray.cancel(reference)

    def leave(self) -> None:
        """Leave the cluster, which goes on."""
        self._ray.shutdown()


def _require_listener(address: str) -> None:
    """Raise OSError or ValueError if nobody listens at HOST:PORT: Ray would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), CONNECTED).close()


def add_folder(archive: ZipFile, folder: Path, within: Path) -> None:
    """Add a folder's files to a zip file, by their paths within another folder."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            archive.write(file, file.relative_to(within))


@contextmanager
def unpacked(archive: Shared) -> Generator[Path]:
    """Unpack a zip file, by its path or its bytes, into a folder that is removed afterwards."""
    near = archive.parent if isinstance(archive, Path) else None  # removed by who asked, if this process is killed
    with TemporaryDirectory(prefix="kard-", dir=near, ignore_cleanup_errors=True) as folder:
        with ZipFile(archive if isinstance(archive, Path) else BytesIO(archive)) as packed:
            packed.extractall(folder)
        yield Path(folder)


def require_seen(path: Path) -> None:
    """Raise WorkersFailed in a worker that does not see what who asked has under this path."""
    if not path.exists():
        raise WorkersFailed(
            f"the worker on {socket.gethostname()} does not see {path}; put it where every machine finds it under "
            "that path"
        )


def lost(jobs: int) -> WorkersFailed:
    """Return the error of jobs whose workers are lost again and again."""
    return WorkersFailed(
        f"{jobs} jobs lost their workers {ATTEMPTS} times, perhaps for want of memory; what was done is kept: "
        "run it again with fewer workers"
    )
