"""Stages that run ahead, forward passes side by side, and the memory that they keep."""

import platform
import subprocess
import sys
import threading
import time
from contextlib import closing

import numpy as np
import pytest
import torch

from rscd.inference.backends.pytorch import TorchBackend
from rscd.inference.predictor import Predictor
from rscd.inference.workers import closing_source, in_workers, load_ahead, prefetched
from rscd.model.registry import load_model


def test_items_come_in_order():
    assert list(prefetched(range(100), depth=3)) == list(range(100))


def test_it_works_ahead_of_its_consumer_but_not_further_than_asked():
    made = []

    def source():
        for i in range(20):
            made.append(i)
            yield i

    items = prefetched(source(), depth=2)
    next(items)
    deadline = time.monotonic() + 10
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert made == [0, 1, 2]  # one consumed, two ready
    items.close()


def test_it_begins_before_the_first_item_is_asked_for_and_ends_when_none_is():
    before, begun = threading.active_count(), threading.Event()

    def source():
        begun.set()
        yield from range(10)

    items = prefetched(source())
    assert begun.wait(10)
    items.close()
    assert threading.active_count() == before


def test_an_exception_in_the_thread_is_raised_here():
    def source():
        yield 1
        raise ValueError("broken block")

    items = prefetched(source())
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken block"):
        next(items)


def test_the_thread_ends_when_the_consumer_stops():
    before = threading.active_count()
    items = prefetched(iter(range(1_000_000)))
    next(items)
    items.close()
    assert threading.active_count() == before


def test_what_is_drawn_from_a_thread_ends_with_the_body_though_the_error_lives_on():
    before = threading.active_count()

    def double():
        with closing_source(prefetched(iter(range(1_000_000)))) as items:
            for item in items:
                if item == 3:
                    raise ValueError("here")
                yield 2 * item

    with pytest.raises(ValueError, match="here") as caught:
        list(double())
    assert caught.value.__traceback__ is not None
    assert threading.active_count() == before


def test_items_come_in_order_though_they_run_side_by_side():
    both = threading.Barrier(2, timeout=20)  # passed only while two are at work

    def work(i: int) -> int:
        both.wait()
        time.sleep(0.01 * (i % 3))
        return i

    assert list(in_workers(work, range(20), 2, 4)) == list(range(20))


def test_a_module_that_cannot_be_loaded_ahead_is_left_to_who_needs_it(tmp_path, monkeypatch, capfd):
    (tmp_path / "broken_library.py").write_text("raise OSError('no such system library')")
    (tmp_path / "whole_library.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    before = set(threading.enumerate())
    load_ahead("no_such_library", "broken_library", "whole_library")
    for thread in set(threading.enumerate()) - before:
        thread.join()
    assert "whole_library" in sys.modules
    assert capfd.readouterr().err == ""


def test_threads_are_shared_out_and_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        assert set(in_workers(lambda _: torch.get_num_threads(), range(8), 2, 2)) == {2}
        assert torch.get_num_threads() == 4
        seen: list[int] = []
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert seen == [4]
    finally:
        torch.set_num_threads(before)


def test_no_more_is_taken_than_asked_for_and_an_error_ends_it():
    taken: list[int] = []

    def items():
        for i in range(1000):
            taken.append(i)
            yield i

    def work(i: int) -> int:
        if i == 5:
            raise ValueError("the sixth")
        return i

    with closing(in_workers(work, items(), 2, 3)) as results:
        assert next(results) == 0
        assert len(taken) == 3
        with pytest.raises(ValueError, match="the sixth"):
            list(results)
    assert len(taken) < 12


def test_probabilities_do_not_depend_on_the_lanes():
    network, contract = load_model("buildings")
    predictor = Predictor(TorchBackend(network, contract.temperature))
    rng = np.random.default_rng(3)
    pairs = [rng.integers(0, 256, (2, 1, 3, 448, 448), dtype=np.uint8) for _ in range(3)]
    alone = [predictor(*pair) for pair in pairs]
    for one, other in zip(alone, in_workers(lambda pair: predictor(*pair), pairs, 2, 3), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


FAULTS = """
import resource, sys
import numpy as np
from rscd.core.resources import return_freed_memory, keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def touch():
    np.ones(12 << 20, np.float32)  # 48 MB: beyond what glibc keeps by itself
touch()
start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6
held = resident()
return_freed_memory()
print(held - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_arrays_are_not_fetched_anew_each_time_but_given_back_when_asked():
    told = {
        way: [float(x) for x in subprocess.check_output([sys.executable, "-c", FAULTS, way], text=True).split()]
        for way in ("kept", "plain")
    }
    assert told["kept"][0] < 0.1 * told["plain"][0]
    assert told["kept"][1] > 40, "MB"


def test_a_library_leaves_its_hosts_allocator_alone():
    code = (
        "from rscd import load_model\n"
        "from rscd.core.resources import keep_freed_memory\n"
        "from rscd.inference.device import own_process\n"
        "from rscd.inference.backends.pytorch import TorchBackend\n"
        "network, contract = load_model('buildings')\n"
        "TorchBackend(network, contract.temperature)\n"
        "assert keep_freed_memory.cache_info().currsize == 0\n"
        "own_process('cpu')\n"
        "assert keep_freed_memory.cache_info().currsize == 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
