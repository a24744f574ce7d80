"""Independent jobs: one after the other here, or side by side on the workers of a Dask cluster. The results are the same."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

from labloop.errors import ConfigError
from labloop.runtime.allowance import allow, allowed
from labloop.runtime.counts import check_count
from labloop.runtime.devices import dealt_devices
from labloop.runtime.progress import track

J = TypeVar("J")
R = TypeVar("R")

Workers = int | str
"""1 for this process, a number of processes on this machine, or the address of a Dask scheduler, `tcp://host:8786`."""


PATIENCE = "30s"
"""What a Dask scheduler may take to answer: one of this machine starts its processes meanwhile."""


def spread(function: Callable[[J], R], jobs: Sequence[J], label: str, *, workers: Workers = 1) -> Iterator[tuple[int, R]]:
    """Run a function on every job; yield each job's number and result as they are finished.

    With several workers on a machine of several CUDA devices each worker sees one of them. A job whose worker dies is run again
    on another, three times at most, so it must do no harm twice; everything of labloop that is random derives from its seed,
    so the result stays the same.

    Args:
        function: importable by its name on the workers.

    Raises:
        ConfigError: Dask is not installed, no scheduler answers at the address, or the number of workers counts none.
    """
    if not isinstance(workers, str):
        check_count("workers", workers)
    if workers == 1:
        for number in track(len(jobs), label):
            yield number, function(jobs[number])
        return
    try:
        from distributed import Client, SpecCluster, as_completed
    except ImportError as error:
        raise ConfigError(f"workers {workers!r} need the package {error.name!r}: pip install 'labloop-toolkit[dask]'") from error
    logging.getLogger("distributed").setLevel(logging.ERROR)  # who starts, listens and stops where is nothing to the user
    with ExitStack() as held:
        if isinstance(workers, int):
            address: Any = held.enter_context(SpecCluster(**local_cluster(workers)))
        else:
            address = workers
        try:
            client = held.enter_context(Client(address, timeout=PATIENCE))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"workers {workers!r}: no Dask scheduler answers there ({error}): start one with 'dask scheduler', and a "
                "'dask worker ADDRESS --nthreads 1' for each device"
            ) from error
        told = partial(_trusting, function, sorted(allowed()))
        numbers = {future: i for i, future in enumerate(client.map(told, jobs, pure=False))}
        finished = as_completed(numbers)
        for _ in track(len(jobs), label):
            future = next(finished)
            yield numbers[future], future.result()


def _trusting(function: Callable[[J], R], modules: Sequence[str], job: J) -> R:
    """Do a job on a worker, which may be on another machine, with the plug-ins that its sender allows."""
    allow(*modules)
    return function(job)


def local_cluster(workers: int) -> dict[str, Any]:
    """Give `distributed.SpecCluster` its arguments for a cluster on this machine.

    A process a worker, one thread in each, the CUDA devices dealt out in turn.
    """
    from distributed import Nanny, Scheduler

    devices = dealt_devices()
    environments = [{"CUDA_VISIBLE_DEVICES": devices[i % len(devices)]} if devices else {} for i in range(workers)]
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    quiet = {"dashboard": False, "silence_logs": logging.ERROR}
    return {
        "scheduler": {"cls": Scheduler, "options": {"dashboard": False, "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}},
        "workers": {
            i: {"cls": Nanny, "options": {"nthreads": 1, "env": {**threads, **own}, **quiet}}
            for i, own in enumerate(environments)
        },
    }
