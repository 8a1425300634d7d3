"""Mutated TIFFs and safetensors: every outcome is a right answer or an RscdError, within bounds of time and memory.

RSCD_FUZZ_SEED repeats a run; without it the seed is the date.
"""

import collections
import json
import os
import random
import select
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from conftest import REPOSITORY

WATCHDOG_S, MOST_CPU_S, MOST_MB = 60, 10, 2048
SHARES = (("tiff", 0.7), ("model", 0.22), ("detect", 0.08))


class Worker:
    """A process that takes inputs until one ends it."""

    def __init__(self, folder):
        path = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.fuzz_worker", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "stderr").open("w"),
            text=True,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        assert self._answer(300)["outcome"] == "ready"

    def _answer(self, seconds):
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if ready else None
        if line:
            return json.loads(line)
        told = "a hang" if line is None else f"the process died: {self.close()}"
        return {"outcome": f"wrong: {told}", "cpu_s": 0.0, "rss_mb": 0.0}

    def run(self, kind, seed):
        self._process.stdin.write(f"{kind} {seed}\n")
        self._process.stdin.flush()
        return self._answer(WATCHDOG_S)

    def close(self):
        self._process.kill()
        return self._process.wait()


def fuzz(folder, count):
    """Run so many inputs; returns how often each outcome was, and what was wrong."""
    base = int(os.environ.get("RSCD_FUZZ_SEED", datetime.now(UTC).strftime("%Y%m%d")))
    rng = random.Random(base)
    inputs = [(kind, rng.randrange(10**9)) for kind, share in SHARES for _ in range(round(share * count))]
    found, wrong, worker = collections.Counter(), [], Worker(folder)
    try:
        for kind, seed in inputs:
            told = worker.run(kind, seed)
            failed = told["outcome"].startswith("wrong")
            found[kind, "wrong" if failed else told["outcome"]] += 1
            if failed or told["cpu_s"] > MOST_CPU_S or told["rss_mb"] > MOST_MB:
                wrong.append((kind, seed, told))
                worker.close()
                worker = Worker(folder)
    finally:
        worker.close()
    told = ", ".join(f"{kind} {outcome}: {n}" for (kind, outcome), n in sorted(found.items()))
    print(f"\nfuzz: {len(inputs)} inputs, seed {base}: {told}")
    return found, wrong


def check(found, wrong):
    assert not wrong, "\n\n".join(f"{kind} {seed}: {told}" for kind, seed, told in wrong[:10])
    assert found["tiff", "read right"] > 0, "mutations that leave a file sound are among them"
    assert found["tiff", "refused, exit 3"] > 0
    assert found["model", "refused, exit 4"] > 0
    assert found["tiff", "large"] < 0.1 * found.total()


def test_two_hundred_mutated_inputs(tmp_path):
    check(*fuzz(tmp_path, 200))


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_two_thousand_mutated_inputs(tmp_path):
    check(*fuzz(tmp_path, 2000))
