"""Workers do jobs beside each other, begin lost ones again, and say in one line what stops them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from worker_jobs import die, die_once, double, fail_first, refuse

from kard.errors import BadInput, KardError, NoExtra, WorkersFailed
from kard.processes import has_ended
from kard.work.workers import workers


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    file = tmp_path / "shared"
    file.write_text("words")
    return file


def test_processes_do_every_job_once_with_their_share_of_the_threads(shared: Path) -> None:
    with workers(2, None) as both:
        assert both is not None
        results = dict(both.run(double, range(7), shared))
        again = dict(both.run(double, [1], shared))
    each = str(max(1, len(os.sched_getaffinity(0)) // 2))
    assert results == {job: (2 * job, f"words {each}") for job in range(7)}
    assert again == {1: (2, f"words {each}")}


def test_a_lost_worker_costs_its_jobs_a_second_beginning_and_nobody_gets_one_twice(shared: Path) -> None:
    with workers(2, None) as both:
        assert both is not None
        seen = Counter(job for job, _ in both.run(die_once, range(8), shared))
    assert seen == Counter(range(8))


def test_a_job_that_kills_its_workers_is_given_up_in_one_line(shared: Path) -> None:
    with workers(2, None) as both:
        assert both is not None
        results = both.run(die, [1, 2], shared)
        with pytest.raises(WorkersFailed, match=r"^2 jobs lost their workers 4 times.*with fewer workers$"):
            list(results)


ASKED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from worker_jobs import wait_for_ever
from kard.work.workers import workers

if __name__ == "__main__":
    with workers(2, None) as both:
        list(both.run(wait_for_ever, [1, 2], Path(sys.argv[2])))
"""


def test_workers_end_with_a_killed_command(shared: Path) -> None:
    script = shared.with_name("asked.py")
    script.write_text(ASKED)
    command = [sys.executable, str(script), str(Path(__file__).parent), str(shared)]
    with subprocess.Popen(command) as asked:
        files = [shared.with_name(f"{job}.pid") for job in (1, 2)]
        while not all(file.exists() and file.read_text() for file in files):
            assert asked.poll() is None
            time.sleep(0.05)
        asked.kill()
    numbers = [int(file.read_text()) for file in files]
    end = time.monotonic() + 60
    while not all(map(has_ended, numbers)):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_a_job_raises_for_a_person_reaches_the_person(shared: Path) -> None:
    with workers(2, None) as both:
        assert both is not None
        results = both.run(refuse, [1, 2], shared)
        with pytest.raises(BadInput, match=r"^file:[12]: holds nothing; name another$"):
            list(results)


def test_jobs_under_way_are_kept_when_another_one_fails_and_no_new_one_is_begun(shared: Path) -> None:
    done: list[int] = []
    with workers(2, None) as both:
        assert both is not None
        kept = (done.append(job) for job, _ in both.run(fail_first, range(50), shared))
        with pytest.raises(BadInput, match="holds nothing"):
            list(kept)
    assert 1 <= len(done) < 10


def test_one_process_or_none_is_this_one() -> None:
    for count in (None, 1):
        with workers(count, None) as nobody:
            assert nobody is None


def test_ray_is_an_extra_and_a_missing_cluster_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"  # bound, but nobody listens
        with pytest.raises(WorkersFailed, match=rf"^no Ray cluster answers at {address} \(.+ray start --head$"):
            workers(None, address).__enter__()
    with pytest.raises(WorkersFailed, match=r"no Ray cluster answers at 127\.0\.0\.1:x"):
        workers(None, "127.0.0.1:x").__enter__()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(NoExtra, match=r"pip install 'kard\[ray\]'"):
        workers(None, address).__enter__()


def test_errors_keep_their_words_on_their_way_between_processes() -> None:
    import pickle

    for error in (BadInput("is broken", at="a:1"), WorkersFailed("gone")):
        back = pickle.loads(pickle.dumps(error))
        assert isinstance(back, KardError)
        assert str(back) == str(error)
