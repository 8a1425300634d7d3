"""Scheduling with Dask: on local workers that rscd starts, or on any cluster with a scheduler's address.

A slot for a network is the Dask resource ``GPU``, also on a CPU: a worker that offers ``GPU=1`` runs one pair at a
time.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from rscd.core.errors import Interrupted, UsageError
from rscd.inference.device import own_process, usable_cores

if TYPE_CHECKING:
    from distributed import Client, SpecCluster


LOOPBACK = "127.0.0.1"
SLOT = "GPU"
"""Name of the Dask resource that is one slot for a network."""
SAY_S = 10.0
"""Interval between messages while waiting for workers, s."""
WAIT_S = 300.0
"""Timeout for a scheduler's first worker, s."""
CONNECT_S = 20
"""Timeout for a connection to an address, s."""


@contextmanager
def workers(
    scheduler: str | None,
    device: str = "auto",
    count: int | None = None,
    wait_s: float = 0.0,
    notify: Callable[[str], None] = lambda line: None,
) -> Iterator[Client]:
    """Connect to a cluster, or start local workers: one per GPU, or the given number on the CPU.

    Args:
        scheduler: A scheduler's address, such as ``tcp://host:8786``; None for local workers.
        device: ``auto``, ``cpu`` or ``cuda:N``: the device of local workers.
        count: Number of local workers on the CPU, which share its cores; None: one.
        wait_s: How long to wait for the first worker of a scheduler that has none, s.
        notify: Called with a message every ``SAY_S`` seconds of that wait.

    Raises:
        UsageError: Dask is not installed, nothing answers at the address, or no worker there has a slot.
    """
    try:
        import dask
        from distributed import Client
    except ImportError as error:
        problem = "--scheduler, --workers and several GPUs need Dask"
        raise UsageError(problem, remedy="in rscd's folder: pip install '.[cluster]'") from error
    with ExitStack() as stack:
        # Only the scheduler and its workers listen, on loopback: no dashboard, no web pages.
        quiet: dict[str, list[str]] = {
            "distributed.scheduler.http.routes": [],
            "distributed.worker.http.routes": [],
        }
        stack.enter_context(dask.config.set(quiet))
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        place: Any = scheduler if scheduler is not None else stack.enter_context(_local_cluster(device, count))
        try:
            client = stack.enter_context(Client(place, timeout=CONNECT_S, set_as_default=False))
        except (OSError, ValueError, TypeError) as error:
            remedy = "give a Dask scheduler's address, such as tcp://host:8786"
            raise UsageError(f"--scheduler {scheduler}: {error}", remedy=remedy) from error
        if scheduler is not None:
            _wait_for_workers(client, scheduler, wait_s, notify)
        there = _offers(client)
        if not any(there):
            remedy = f"start them with: dask worker {scheduler} --nthreads 1 --resources {SLOT}=1"
            raise UsageError(f"--scheduler {scheduler}: none of {len(there)} workers has a slot", remedy=remedy)
        yield client


def _on_worker(function: Callable[[Any], Any], item: Any) -> Any:  # noqa: ANN401 - the function's
    """Call a function in a worker's process, which only runs rscd."""
    own_process("auto")
    return function(item)


def _wait_for_workers(client: Client, scheduler: str, wait_s: float, notify: Callable[[str], None]) -> None:
    """Wait for the first worker.

    Raises:
        UsageError: No worker connected in time.
    """
    began = said = monotonic()
    while not _offers(client):
        now = monotonic()
        if now - began >= wait_s:
            remedy = f"start some: dask worker {scheduler} --nthreads 1 --resources {SLOT}=1; or raise --wait"
            raise UsageError(f"--scheduler {scheduler}: no worker connected in {wait_s:.0f} s", remedy=remedy)
        if now - said >= SAY_S or now == began:
            said = now
            notify(f"waiting for workers at {scheduler} ({now - began:.0f} of {wait_s:.0f} s)")
        sleep(min(0.2, max(wait_s, 0.01)))


def completed(
    client: Client,
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    retries: int,
    on_start: Callable[[Any], None] = lambda item: None,
) -> Generator[tuple[Any, Any]]:
    """Run a function for each item on the workers; yield each item with its result, or exception, when finished.

    Only one item per slot is given out at a time: Dask counts a worker's death against every task waiting on it,
    and would give up harmless tasks together with the one that kills the worker.

    Args:
        client: Client of the cluster.
        function: Function to call; importable on the workers.
        items: Its arguments, one per call.
        retries: How often a call that raises is repeated. A call whose worker died is always repeated, until four
            workers have died.
        on_start: Called with each item when it is given out.

    Raises:
        Interrupted: The scheduler was lost.
    """
    from distributed import as_completed

    waiting = iter(items)
    given: dict[str, Any] = {}
    events = as_completed(loop=client.loop)

    def give() -> None:
        while len(given) < slots(client):
            item = next(waiting, None)
            if item is None:
                return
            on_start(item)
            key = f"rscd-{uuid.uuid4()}"
            options = {"key": key, "resources": {SLOT: 1}, "retries": retries, "pure": False}
            future = client.submit(_on_worker, function, item, **options)
            given[key] = item
            events.add(future)

    give()
    for future in events:
        item = given.pop(future.key)
        error = future.exception() if future.status == "error" else None
        if error is None and future.status != "finished":
            raise Interrupted("the scheduler was lost", remedy="start it and run the same command again")
        yield item, future.result() if error is None else error
        del future
        give()


def slots(client: Client) -> int:
    """Number of calls that can run at once; at least 1, because workers may still connect."""
    return max(1, sum(map(bool, _offers(client))))


def _offers(client: Client) -> list[float]:
    """The slots of each connected worker."""
    found = client.scheduler_info(n_workers=-1).get("workers")
    if found is None:
        raise Interrupted("the scheduler was lost", remedy="start it and run the same command again")
    return [worker["resources"].get(SLOT, 0) for worker in found.values()]


@contextmanager
def _local_cluster(device: str, count: int | None) -> Iterator[SpecCluster]:
    """Worker processes on loopback; each sees one GPU, or the CPU."""
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = visible_gpus(device) or [None] * (count or 1)
    threads = max(1, usable_cores() // len(gpus))
    listen = {"host": LOOPBACK, "dashboard": False, "dashboard_address": f"{LOOPBACK}:0"}
    specs = {
        k: {
            "cls": Nanny,
            "options": listen
            | {
                "nthreads": 1,
                "resources": {SLOT: 1},
                "memory_limit": 0,  # Dask does not account for the memory of pairs
                "silence_logs": logging.CRITICAL,
                "env": {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
                | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}),
            },
        }
        for k, gpu in enumerate(gpus)
    }
    scheduler = {"cls": Scheduler, "options": listen | {"port": 0}}
    with SpecCluster(scheduler=scheduler, workers=specs, silence_logs=logging.CRITICAL) as cluster:
        yield cluster


def visible_gpus(device: str) -> list[str | None]:
    """Names of the GPUs to use, as in CUDA_VISIBLE_DEVICES; empty for the CPU."""
    from rscd.inference.device import choose_device

    chosen = choose_device(device)
    if chosen == "cpu":
        return []
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else [str(k) for k in range(torch.cuda.device_count())]
    return list(names) if device == "auto" else [names[int(chosen.partition(":")[2])]]
