"""Who computes where one process is not enough: local worker processes, and clusters of Dask.

Work is handed out piece by piece, a few a worker, so that neither the client nor the scheduler ever hold
many. Workers read the scene and write their blocks themselves, into a folder that all of them share.
"""

from __future__ import annotations

import json
import os
import pickle
import pkgutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster, Worker, WorkerPlugin, wait
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker

from geosam import __version__
from geosam.crew import FINISHING, Needs, nothing, results
from geosam.errors import GeosamError, GeosamWarning, OptionError, WorkerError
from geosam.heap import give_back, one_heap_environment, share_heap
from geosam.progress import Bar

ANSWER_S = 5
"""A scheduler that says nothing for so long is not there."""
AHEAD = 2
"""Pieces of work at a thread of a worker: one in work, and one that waits."""
_HERE = "127.0.0.1"
"""Where local workers and their scheduler listen: whoever reaches these may have them run anything."""
_ANY_PORT = f"{_HERE}:0"
_HASH_SEED = "PYTHONHASHSEED"
"""What Dask sets for workers of its own accord."""
_LOGS = 40
"""Level of the logs of local workers: errors alone."""


@dataclass(frozen=True)
class Cluster:
    """Workers of a Dask scheduler."""

    client: Client
    """Speaks to the scheduler."""

    @property
    def most(self) -> int:
        """Pieces of work that are handed out at once."""
        with self._answering():
            return AHEAD * max(1, sum(self.client.nthreads().values()))

    def do(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        bar: Bar,
        needs: Needs = nothing,
        models: int = 0,
    ) -> list[Any]:
        """Do pieces of work, as many at a time as workers have threads; see :class:`geosam.crew.Crew`.

        Raises
        ------
        WorkerError
            If a piece of work ended worker after worker, or the scheduler went away.
        """
        with self._answering():
            # Dask has a worker give back every 64 kB that is free, with which a ViT-B takes longer by two thirds.
            self.client.run(share_heap, on_error="ignore")
            found = self._results(function, items, bar, needs)
            self.client.run(give_back, on_error="ignore")
            return found

    def _results(
        self, function: Callable[[Any], Any], items: Iterable[Any], bar: Bar, needs: Needs
    ) -> list[Any]:
        flying: dict[Any, int] = {}
        # All that the pieces share is sent once, and can be sent again to a worker that takes the
        # place of one that died.
        shared = self.client.submit(pickle.loads, _packed(function), pure=False)
        submit = partial(self.client.submit, _call, shared, pure=False)
        try:
            with self.client.as_current():
                return results(submit, items, flying, self.most, wait, bar, needs)
        except KeyboardInterrupt:
            warnings.warn(FINISHING, GeosamWarning, stacklevel=2)
            with self.client.as_current():
                wait(list(flying))
            raise
        except KilledWorker as error:
            raise WorkerError(
                f"A block ended one worker after the other ({error.last_worker.address} was the last): "
                "probably it needs more memory than they have. Use fewer --workers, a smaller "
                "--batch-size, or workers with more memory."
            ) from error
        finally:
            if self.client.status == "running":
                with suppress(CancelledError, OSError):  # one that is gone has forgotten them
                    self.client.cancel([shared, *flying])

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Say so where the scheduler is gone, or goes away within it."""
        try:
            if self.client.status in ("closing", "closed"):
                raise CommClosedError("the client gave up")
            yield
        except (CancelledError, OSError, RuntimeError) as error:
            lost = isinstance(error, (CancelledError, CommClosedError))
            # Others are those of a piece of work.
            if not lost and self.client.status == "running":
                raise
            raise WorkerError(
                "The scheduler of the cluster went away. Start it again, and go on with --resume."
            ) from error


def _packed(function: Callable[[Any], Any]) -> bytes:
    from distributed.protocol.pickle import dumps

    return dumps(function)


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    try:
        return function(item)
    except GeosamError as error:
        _forget_unsendable(error)
        raise


def _forget_unsendable(error: BaseException) -> None:
    """Forget what an error comes from, but for errors of Python itself: those of GDAL arrive nowhere, and what they
    come with does not either.
    """
    cause = error.__cause__
    if cause is not None and type(cause).__module__ != "builtins":
        cause = None
    if cause is not None:
        _forget_unsendable(cause)
    error.__cause__, error.__context__ = cause, None


class DeafToInterrupts(WorkerPlugin):
    """Ctrl-C reaches all processes of a terminal: the client says what becomes of the work."""

    def setup(self, worker: Worker) -> None:
        """Let the worker finish what it does."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def local_workers(environments: Iterable[Mapping[str, str]], threads: int) -> Iterator[Cluster]:
    """Start worker processes on this machine, and end them with the body.

    Parameters
    ----------
    environments
        What is set in the environment of each; one that dies is started anew with the same.
    threads
        Pieces of work that each does side by side.
    """
    workers = {
        number: {
            "cls": Nanny,
            # Memory is flat by construction: Dask need neither pause nor end a worker for it.
            "options": {
                "nthreads": threads, "env": dict(environment), "memory_limit": 0,
                "silence_logs": _LOGS, "plugins": (DeafToInterrupts(),),
                "host": _HERE, "dashboard": False, "dashboard_address": _ANY_PORT,
            },
        }
        for number, environment in enumerate(environments)
    }  # fmt: skip
    scheduler = {"cls": Scheduler, "options": {"host": _HERE, "dashboard_address": _ANY_PORT}}
    with (
        _script_unseen(),
        _begun_with(one_heap_environment()),
        SpecCluster(workers=workers, scheduler=scheduler, silence_logs=_LOGS) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(len(workers))
        yield Cluster(client)


@contextmanager
def _begun_with(environment: Mapping[str, str]) -> Iterator[None]:
    """Let new workers begin with an environment, which this process does not keep.

    How many heaps a process has is settled with its second thread. Dask leaves what it sets in this process.
    """
    before = {name: os.environ.get(name) for name in (*environment, _HASH_SEED)}
    try:
        with dask.config.set({"distributed.nanny.pre-spawn-environ": dict(environment)}):
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _script_unseen() -> Iterator[None]:
    """Keep new processes from running the script that starts them.

    Python would let each import it anew, and without ``if __name__ == "__main__"`` in it each would begin
    the same run. What it defines is sent by value.
    """
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if path is None or main.__spec__ is not None:
        yield
        return
    main.__file__ = None
    try:
        yield
    finally:
        main.__file__ = path


@contextmanager
def cluster_at(address: str, shared: Mapping[str, str]) -> Iterator[Cluster]:
    """Use the workers of a scheduler that runs already.

    Parameters
    ----------
    address
        ``tcp://host:port``, or the scheduler's file.
    shared
        Absolute paths of files and folders that all workers must see, and what each is.

    Raises
    ------
    OptionError
        If no scheduler answers, it has no workers, or these have another version of geosam or do not
        see what they must.
    """
    with _client(address) as client:
        if not client.nthreads():
            raise OptionError(f"--scheduler {address} has no workers. Start some, then try again.")
        _check_versions(client, address)
        _check_seen(client, shared)
        yield Cluster(client)


def _client(address: str) -> Client:
    path = Path(address)
    file = os.path.isfile(path)
    if "://" not in address and ":" not in address and not file:
        raise OptionError(
            f"--scheduler {address}: there is no such file. Give an address, such as "
            "tcp://host:8786, or the file of a scheduler."
        )
    where = _address_in(path) if file else address
    try:
        # Whoever computes something on the side does it here, and not on the cluster.
        return Client(where, timeout=ANSWER_S, set_as_default=False)
    except TypeError as error:
        if not where.startswith("tls:"):
            raise
        raise OptionError(
            f"--scheduler {address} is encrypted, and Dask knows no certificates here: name them in its "
            "configuration, under distributed.comm.tls, or give a tcp:// address."
        ) from error
    # Of what another program answers, a number may be taken for the length of a message.
    except (OSError, TimeoutError, ValueError, MemoryError) as error:
        raise OptionError(
            f"No Dask scheduler answers at --scheduler {address} within {ANSWER_S} s. Check the "
            "address, or start one."
        ) from error


def _address_in(path: Path) -> str:
    """Return the address that the file of a scheduler holds."""
    try:
        return str(json.loads(path.read_text())["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(
            f"--scheduler {path} is not the file of a scheduler: it holds no address. Give the file "
            "that dask scheduler --scheduler-file wrote, or an address."
        ) from error


def _check_versions(client: Client, address: str) -> None:
    """Ask with a function that a worker has even where geosam is not installed."""
    try:
        found = client.run(pkgutil.resolve_name, "geosam:__version__")
    except ImportError as error:
        raise OptionError(
            f"The workers of --scheduler {address} have no geosam. Install version {__version__} there."
        ) from error
    for worker, version in found.items():
        if version != __version__:
            raise OptionError(
                f"The worker {worker} has geosam {version}, and this is {__version__}. Install the same "
                "version there."
            )


def _check_seen(client: Client, shared: Mapping[str, str]) -> None:
    for worker, missing in client.run(_missing, list(shared)).items():
        for path in missing:
            raise OptionError(
                f"The worker {worker} does not see {path}, {shared[path]}. Put it into a folder that all "
                "workers share under one name."
            )


def _missing(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if not os.path.exists(path)]
