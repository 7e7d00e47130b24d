"""Who works on a job: threads, processes of this machine, or a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import dask

from geosam.cores import one_core
from geosam.crew import Crew, Threads
from geosam.job import Job
from geosam.models.resident import Resident
from geosam.options import Options
from geosam.types import Model
from geosam.whereabouts import anywhere

LARGE_AT_ONCE = 2
"""Pieces of work at a time that a large network is in, each with its share of the cores: what one of them has to
read, blend and keep does not stop the other. More would not fit into memory."""
DEVICE_THREADS = 2
"""Pieces of work at a time for each GPU: one is read or written while the other is computed."""


@contextmanager
def crew_of(job: Job, model: Model) -> Iterator[Crew]:
    """Find who works on a job: threads, processes of this machine, or a cluster."""
    options = job.options
    if options.scheduler is not None:
        from geosam.cluster import cluster_at

        with (
            _store_folder(options.store),
            cluster_at(options.scheduler, _shared(job, model)) as cluster,
            dask.config.set(scheduler="threads"),
        ):
            yield cluster
    elif options.devices or (options.workers or 1) > 1:
        from geosam.cluster import local_workers

        crew = local_workers(*_local_crew(options, model))
        with crew as cluster, dask.config.set(scheduler="threads"):
            yield cluster
    else:
        with shared_threads(options, model) as threads:
            yield threads


@contextmanager
def _store_folder(store: str | Path | None) -> Iterator[None]:
    """Make the folder of a new store, so that workers can be asked whether they see it; empty it goes again."""
    if store is None or os.path.exists(store):
        yield
        return
    with suppress(OSError):  # said where the store is opened
        os.mkdir(store)
    try:
        yield
    finally:
        with suppress(OSError):  # what is in use stays
            os.rmdir(store)


def _shared(job: Job, model: Model) -> dict[str, str]:
    """Return the absolute paths of all that workers read and write, and what each is."""
    options, source = job.options, job.source
    named = {
        str(job.folder): "where blocks are kept",
        **{part.file.path: "a file of the scene" for part in source.parts},
    }
    if source.valid is not None:
        named[source.valid.file.path] = "the mask of --valid"
    if job.decision.source == "raster":
        named[anywhere(options.prompts)] = "the raster of --prompts"
    if options.store is not None:
        named[anywhere(options.store)] = "the folder of --store"
    if isinstance(model, Resident):
        named[dict(model.arguments)["name"]] = "the model"
    # Names and URLs are no paths.
    return {
        path: what for path, what in named.items() if os.path.isabs(path) and os.path.exists(path)
    }


def _local_crew(options: Options, model: Model) -> tuple[list[dict[str, str]], int]:
    """Return the environment of each worker process, and how many threads each has."""
    cores = os.cpu_count() or 1
    if options.devices:
        from geosam.models.device import visible_devices

        threads = str(max(1, cores // len(options.devices)))
        return [
            {"CUDA_VISIBLE_DEVICES": device, "OMP_NUM_THREADS": threads}
            for device in visible_devices(options.devices)
        ], DEVICE_THREADS
    workers = options.workers or 1
    share = max(1, cores // workers)
    side_by_side = _side_by_side(model, share)
    return [{"OMP_NUM_THREADS": str(max(1, share // side_by_side))}] * workers, side_by_side


def _side_by_side(model: Model, cores: int) -> int:
    """Return how many pieces of work that use the model are done at a time in a process."""
    from geosam.models.memory import SMALL_PX

    device = getattr(getattr(model, "placement", None), "device", None)
    if device is not None and device.type != "cpu":
        return DEVICE_THREADS
    return cores if model.size <= SMALL_PX else min(LARGE_AT_ONCE, cores)


@contextmanager
def shared_threads(options: Options, model: Model) -> Iterator[Threads]:
    """Share the cores between the threads of this process for the time of a run; of one thread, torch has one core."""
    import torch

    cores = torch.get_num_threads()
    crew = Threads(options.workers or cores, options.workers or _side_by_side(model, cores))
    with (
        one_core() if options.workers == 1 else nullcontext(),
        dask.config.set(scheduler="threads", num_workers=crew.workers),
    ):
        yield crew
