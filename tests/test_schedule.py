"""The schedule: items go to workers, results come back with them, and what a worker raises is a result."""

import os
from contextlib import closing

import pytest

from rscd.core.errors import UsageError
from rscd.inference.device import usable_cores
from rscd.jobs.schedule import completed, visible_gpus, workers


def halved(number: int) -> tuple[int, int]:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2, os.getpid()


def test_items_come_back_with_results_or_with_what_was_raised(cluster):
    started = []
    with workers(cluster.scheduler_address) as client:
        with closing(completed(client, halved, range(6), retries=0, on_start=started.append)) as events:
            found = dict(events)
    assert started == [*range(6)]
    assert {k: v[0] for k, v in found.items() if k % 2 == 0} == {0: 0, 2: 1, 4: 2}
    assert all(isinstance(found[k], ValueError) for k in (1, 3, 5))
    assert os.getpid() not in {v[1] for k, v in found.items() if k % 2 == 0}


def test_an_address_where_nothing_answers_is_refused(monkeypatch):
    monkeypatch.setattr("rscd.jobs.schedule.CONNECT_S", 1)
    with pytest.raises(UsageError, match=r"--scheduler tcp://127\.0\.0\.1:1"), workers("tcp://127.0.0.1:1"):
        pass


def test_cores_and_gpus_that_may_be_used(monkeypatch):
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert visible_gpus("cpu") == []
