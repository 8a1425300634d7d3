import threading
import time

import pytest

from rscd.inference.workers import closing_source, prefetched


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
