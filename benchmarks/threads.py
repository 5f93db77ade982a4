"""Two commands beside each other: the time of a training step alone and beside a second process, by waiting policy.

    python benchmarks/threads.py [--rounds 3] [--steps 6] [--json FILE]

The step is the matrix products of a small decoder over 512 tokens, in bfloat16, with as many threads as there are
cores. Each policy is measured alone, beside a process of the same policy, and beside one that spins.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

POLICIES: dict[str, dict[str, str]] = {
    "libgomp's own": {},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}
LAYERS, WIDTH, INNER, TOKENS = 15, 576, 1536, 512


def work(steps: int) -> None:
    """Print the milliseconds of each step."""
    import torch

    shapes = [(WIDTH, WIDTH)] * 2 + [(192, WIDTH)] * 2 + [(INNER, WIDTH)] * 2 + [(WIDTH, INNER)]
    weights = [torch.randn(rows, columns, dtype=torch.bfloat16) for rows, columns in shapes]
    inputs = {n: torch.randn(TOKENS, n, dtype=torch.bfloat16) for n in (WIDTH, INNER)}
    for _ in range(steps + 1):
        begin = time.perf_counter()
        for _ in range(LAYERS):
            for weight in weights:
                torch.nn.functional.silu(torch.nn.functional.linear(inputs[weight.shape[1]], weight)).sum(-1)
        print((time.perf_counter() - begin) * 1000, flush=True)


def start(environment: dict[str, str], steps: int) -> subprocess.Popen[str]:
    clean = {
        k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
    }
    command = [sys.executable, __file__, "--work", str(steps)]
    return subprocess.Popen(command, env={**clean, **environment}, stdout=subprocess.PIPE, text=True)


def median_ms(environment: dict[str, str], beside: dict[str, str] | None, steps: int) -> float:
    """Return the median milliseconds of a step, while another process works if there is one beside."""
    other = None if beside is None else start(beside, 100_000)
    if other is not None and other.stdout is not None:
        other.stdout.readline()
    own, _ = start(environment, steps).communicate()
    if other is not None:
        other.kill()
        other.wait()
    return statistics.median([float(line) for line in own.splitlines()][1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json")
    parser.add_argument("--work", type=int)
    chosen = parser.parse_args()
    if chosen.work is not None:
        work(chosen.work)
        return
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(chosen.rounds):
        for name, environment in POLICIES.items():
            for place, beside in (("alone", None), ("beside its like", environment), ("beside a spinning one", {})):
                found.setdefault(name, {}).setdefault(place, []).append(
                    median_ms(environment, beside, chosen.steps)
                )
    rows = {
        name: {place: round(statistics.median(ms), 1) for place, ms in of.items()} for name, of in found.items()
    }
    print(
        f"milliseconds of a step, medians of {chosen.rounds} rounds, {os.cpu_count()} cores, {platform.machine()}"
    )
    for name, row in rows.items():
        print(f"{name:<24}" + "".join(f"{place} {ms:>8.1f}   " for place, ms in row.items()))
    if chosen.json:
        text = json.dumps({"cores": os.cpu_count(), "milliseconds": rows}, indent=1)
        Path(chosen.json).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
