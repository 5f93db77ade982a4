"""How many threads a process may use, and that every library gets as many."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kard import processes as threads
from kard.processes import available, limit


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a root of control groups, of which this process is in `a/b`, and eight cores."""
    (tmp_path / "self").write_text("0::/a/b\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    eight = set(range(8))

    def cores(_process: int) -> set[int]:
        return eight

    monkeypatch.setattr(os, "sched_getaffinity", cores, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("inner", "outer", "wanted"),
    [
        ("max 100000", "max 100000", 8),
        ("200000 100000", "max 100000", 2),
        ("150000 100000", "max 100000", 2),  # a thread and a half: two, of which one waits
        ("50000 100000", "max 100000", 1),
        ("400000 100000", "300000 100000", 3),
        ("1600000 100000", "max 100000", 8),
        ("nonsense", "", 8),
    ],
)
def test_the_least_of_affinity_and_quotas_counts(group: Path, inner: str, outer: str, wanted: int) -> None:
    (group / "a" / "b" / "cpu.max").write_text(inner + "\n")
    (group / "a" / "cpu.max").write_text(outer + "\n")
    assert available(group, group / "self") == wanted


def test_the_older_form_of_control_groups_counts_too(group: Path) -> None:
    (group / "self").write_text("5:cpu,cpuacct:/c\n4:memory:/a\n")
    (group / "cpu,cpuacct" / "c").mkdir(parents=True)
    (group / "cpu,cpuacct" / "c" / "cpu.cfs_quota_us").write_text("300000\n")
    (group / "cpu,cpuacct" / "c" / "cpu.cfs_period_us").write_text("100000\n")
    assert available(group, group / "self") == 3
    (group / "cpu,cpuacct" / "c" / "cpu.cfs_quota_us").write_text("-1\n")
    assert available(group, group / "self") == 8


def test_without_control_groups_the_mask_counts(group: Path) -> None:
    (group / "self").unlink()
    assert available(group, group / "self") == 8


def test_what_the_environment_says_stays_unless_a_number_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*threads.POOLS, "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    limit(None)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert os.environ["RAYON_NUM_THREADS"] == str(available())
    limit(3)
    assert {os.environ[name] for name in threads.POOLS} == {"3"}
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_a_command_gives_its_libraries_the_threads_that_were_asked_for(tmp_path: Path) -> None:
    program = (
        "import sys; from kard.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "import torch; print('torch', torch.get_num_threads())"
    )
    environment = {name: value for name, value in os.environ.items() if name not in threads.POOLS}
    for words, extra, wanted in ((["--threads", "1"], {}, 1), ([], {"KARD_THREADS": "1"}, 1)):
        done = subprocess.run(
            [sys.executable, "-c", program, *words, "query", "select 1", "--store", str(tmp_path / "no.db")],
            env={**environment, **extra}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == f"torch {wanted}"
