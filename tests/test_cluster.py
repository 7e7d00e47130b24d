"""Processes and clusters give what threads give, byte by byte, and survive the death of a worker."""

import ctypes
import errno
import gc
import inspect
import os
import pickle
import resource
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import dataclass, field, replace
from pathlib import Path

import dask
import geopandas as gpd
import numpy as np
import psutil
import pytest
import rasterio
import shapely
import torch
from distributed import Client, LocalCluster

import geosam
from geosam import loading
from geosam.cluster import AHEAD, Cluster, cluster_at, local_workers
from geosam.decoding import decode_clicks, encode_picture
from geosam.errors import (
    GeosamWarning,
    InputError,
    ModelError,
    OptionError,
    OutputError,
    WorkerError,
)
from geosam.heap import one_heap_environment
from geosam.models.checkpoint import EMBEDDED
from geosam.models.load import load_model
from geosam.models.resident import resident
from geosam.options import Options
from geosam.progress import SILENT
from geosam.raster.files import readable
from geosam.testing import FakeModel, write_scene
from geosam.types import ManyMaskModel
from geosam.workers import DEVICE_THREADS, _local_crew, _side_by_side, shared_threads
from geosam.workspace import disk_is_full


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("scene"), shape=(384, 384), seed=1)[0]


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0
    ) as local:
        yield local


def run(scene, folder, name, **options):
    options = {"model": FakeModel(), "resolution": 1, **options}
    report = geosam.run(
        scene, folder / f"{name}.gpkg", probability=folder / f"{name}.tif", **options
    )
    return report, (folder / f"{name}.tif").read_bytes()


@dataclass(frozen=True)
class Deadly:
    """A model that ends its process, once where it may leave a mark, else always."""

    mark: Path
    once: bool
    inner: FakeModel = field(default_factory=FakeModel)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    def encode(self, pixels):
        if not self.mark.exists() or not self.once:
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.encode(pixels)


def test_a_cluster_gives_what_threads_give_and_a_worker_may_die(scene, tmp_path, cluster):
    threads, expected = run(scene, tmp_path, "threads")
    address = cluster.scheduler_address
    report, found = run(scene, tmp_path, "cluster", scheduler=address)
    assert found == expected
    assert report.tiles == threads.tiles
    model = Deadly(tmp_path / "mark", once=True)
    report, found = run(scene, tmp_path, "dead", scheduler=address, model=model)
    assert (tmp_path / "mark").exists()
    assert found == expected
    assert report.exit_status == 0


@pytest.mark.slow
def test_clicks_and_everything_are_answered_on_a_cluster_as_in_threads(scene, tmp_path, cluster):
    with rasterio.open(scene) as file:
        middle = shapely.Point(*file.xy(file.height // 2, file.width // 2))
        clicks = gpd.GeoDataFrame(geometry=[middle], crs=file.crs)
    clicks.to_file(tmp_path / "points.gpkg")
    where = {"scheduler": cluster.scheduler_address}
    asked = {"prompts": tmp_path / "points.gpkg", "model": "river-tiny"}
    _, expected = run(scene, tmp_path, "clicks", **asked)
    assert run(scene, tmp_path, "clicks_there", **asked, **where)[1] == expected
    here, there = (
        geosam.everything(scene, tmp_path / f"{name}.gpkg", resolution=2, **on)
        for name, on in (("here", {}), ("there", where))
    )
    assert here.segments == there.segments > 0
    layers = [gpd.read_file(found.output, layer="segments") for found in (here, there)]
    assert layers[0].geometry.geom_equals(layers[1].geometry).all()
    assert layers[0].predicted_iou.equals(layers[1].predicted_iou)


glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="another C library keeps memory its own way"
)
FREED = 200
"""How often `pages_taken` frees what it took."""


def pages_taken(_: object = None) -> int:
    """Fresh pages of memory that arrays of 2 MB take, which are freed one after the other."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(FREED):
        np.ones(1 << 18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@glibc
def test_workers_of_a_cluster_keep_the_memory_that_layers_take_in_turns():
    fresh = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, memory_limit=0)
    with fresh as local, Client(local, set_as_default=False) as client:
        dask_alone = min(client.run(pages_taken).values())
        told = Cluster(client).do(pages_taken, range(4), SILENT)
    assert dask_alone > FREED * 500 > 8 * max(told)


@glibc
def test_local_workers_begin_with_one_heap_and_leave_the_environment(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1234567")
    before = dict(os.environ)
    with local_workers([{"OMP_NUM_THREADS": "1"}], 1) as crew:
        (began,) = crew.client.run(Path("/proc/self/environ").read_text).values()
        (threads,) = crew.client.run(os.getenv, "OMP_NUM_THREADS").values()
    wanted = one_heap_environment() | {"MALLOC_TRIM_THRESHOLD_": "1234567"}
    assert {f"{name}={value}" for name, value in wanted.items()} <= set(began.split("\0"))
    assert threads == "1"
    assert dict(os.environ) == before


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_local_workers_listen_to_this_machine_alone():
    ours = psutil.Process()
    before = listening(ours)
    with local_workers([{}], 1) as crew:
        addresses = listening(ours) - before
        for child in ours.children(recursive=True):
            addresses |= listening(child)
        link = crew.client.dashboard_link
    assert len(addresses) >= 4  # the scheduler, a nanny, its worker, a dashboard
    assert {host for host, _ in addresses} == {"127.0.0.1"}
    assert link.startswith("http://127.0.0.1:")


def listening(process):
    found = process.net_connections("tcp")
    return {tuple(c.laddr) for c in found if c.status == psutil.CONN_LISTEN}


@pytest.mark.slow
def test_a_block_that_ends_worker_after_worker_is_said(scene, tmp_path, cluster):
    model = Deadly(tmp_path / "mark", once=False)
    with (
        pytest.warns(GeosamWarning, match="--resume goes on"),
        pytest.raises(WorkerError, match="ended one worker after the other"),
    ):
        run(scene, tmp_path, "dead", scheduler=cluster.scheduler_address, model=model)
    _, found = run(scene, tmp_path, "dead", scheduler=cluster.scheduler_address, resume=True)
    assert found == run(scene, tmp_path, "threads")[1]


@pytest.mark.slow
def test_local_workers_give_what_threads_give(scene, tmp_path):
    _, expected = run(scene, tmp_path, "threads", model="river-tiny")
    report, found = run(scene, tmp_path, "workers", model="river-tiny", workers=2)
    assert found == expected
    assert report.exit_status == 0


def test_the_lazy_result_computes_in_threads_processes_and_on_a_cluster(scene, cluster):
    lazy = geosam.segment(geosam.open_scene(scene), resolution=1).probability
    threads = lazy.compute(scheduler="threads").values.tobytes()
    with Client(cluster.scheduler_address) as client:
        assert client.compute(lazy).result().values.tobytes() == threads
    with dask.config.set(scheduler="processes", num_workers=1):
        assert lazy.compute().values.tobytes() == threads


def test_a_scheduler_that_does_not_answer_is_said_within_seconds(scene, tmp_path):
    started = time.perf_counter()
    with pytest.raises(OptionError, match=r"No Dask scheduler answers at --scheduler tcp://127"):
        run(scene, tmp_path, "a", scheduler="tcp://127.0.0.1:1")
    assert time.perf_counter() - started < 30
    with pytest.raises(OptionError, match="there is no such file"):
        run(scene, tmp_path, "a", scheduler=str(tmp_path / "scheduler.json"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("tls://127.0.0.1:1", "knows no certificates here: name them"),
        ("x" * 300, "there is no such file"),
    ],
)
def test_an_address_that_cannot_be_used_is_said(address, words):
    with pytest.raises(OptionError, match=words), cluster_at(address, {}):
        pass


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"address": '])
def test_a_file_that_is_of_no_scheduler_is_said(scene, tmp_path, content):
    path = tmp_path / "scheduler.json"
    path.write_text(content)
    with pytest.raises(OptionError, match="it holds no address"):
        run(scene, tmp_path, "a", scheduler=str(path))
    assert list(tmp_path.iterdir()) == [path]


class WebServer(socketserver.BaseRequestHandler):
    """Answers anything as no Dask scheduler does."""

    def handle(self):
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_another_program_at_the_address_is_no_scheduler(scene, tmp_path):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), WebServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(OptionError, match="No Dask scheduler answers"):
            run(scene, tmp_path, "a", scheduler=f"tcp://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def elsewhere(tmp_path, cluster, monkeypatch):
    """A folder that the workers of the cluster work in, and another one for this process."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    with Client(cluster, set_as_default=False) as client:
        before = client.run(os.getcwd)
        client.run(os.chdir, theirs)
        monkeypatch.chdir(ours)
        yield theirs
        client.run(os.chdir, next(iter(before.values())))


def test_relative_paths_are_those_of_the_process_that_was_started(scene, cluster, elsewhere):
    ours = Path.cwd()
    (ours / "scene.tif").write_bytes(scene.read_bytes())
    _, truth = write_scene(
        elsewhere, shape=(384, 384), seed=2
    )  # another scene.tif, where they work
    for name in ("truth.tif", "valid.tif"):
        (ours / name).write_bytes(scene.with_name("truth.tif").read_bytes())
        (elsewhere / name).write_bytes(truth.read_bytes())
    for folder in (ours, elsewhere):
        shutil.copytree(EMBEDDED["river-tiny"], folder / "tuned")
    (elsewhere / "tuned" / "model.safetensors").unlink()
    asked = {
        "model": "tuned", "prompts": "truth.tif", "valid": "valid.tif:0,1", "store": "store",
        "resolution": 2, "probability": "found.tif",
    }  # fmt: skip
    geosam.run("scene.tif", "found.gpkg", scheduler=cluster.scheduler_address, **asked)
    found = (ours / "found.tif").read_bytes()
    assert not {path.name for path in elsewhere.iterdir()} - {
        "scene.tif", "truth.tif", "valid.tif", "tuned"
    }  # fmt: skip
    shutil.rmtree(ours / "store")
    geosam.run("scene.tif", "found.gpkg", overwrite=True, **asked)
    assert (ours / "found.tif").read_bytes() == found
    row = gpd.read_file("found.gpkg", layer="runs").iloc[0]
    assert row.scene == "scene.tif"
    assert row.model == str(ours / "tuned")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({}, "scene.tif, a file of the scene"),
        ({"valid": "truth.tif:0,1"}, "truth.tif, the mask of --valid"),
        ({"prompts": "truth.tif"}, "truth.tif, the raster of --prompts"),
        ({"store": "store"}, "store, the folder of --store"),
        ({"model": "tuned"}, "tuned, the model"),
        ({"output": "found"}, r"found\.gpkg\.partial, where blocks are kept"),
    ],
)
def test_what_a_worker_does_not_see_is_said(scene, cluster, elsewhere, options, what):
    """What lies below `/proc/self/cwd` is there for one process, and not for another."""
    for path in (scene, scene.with_name("truth.tif")):
        shutil.copy(path, Path.cwd())
    shutil.copytree(EMBEDDED["river-tiny"], "tuned")
    before, here = sorted(Path.cwd().iterdir()), Path("/proc/self/cwd")
    asked = {name: str(here / value) for name, value in options.items()}
    output = Path(asked.pop("output", "found")).with_suffix(".gpkg")
    seen = scene if options else here / "scene.tif"
    with pytest.raises(OptionError, match=f"worker tcp://.* does not see /proc/self/cwd/{what}"):
        geosam.run(seen, output, scheduler=cluster.scheduler_address, **asked)
    assert sorted(Path.cwd().iterdir()) == before


def test_workers_of_another_version_are_refused(scene, tmp_path, cluster, monkeypatch):
    monkeypatch.setattr("geosam.cluster.__version__", "9.9")
    with pytest.raises(OptionError, match=r"has geosam 0\.1\.0, and this is 9\.9"):
        run(scene, tmp_path, "a", scheduler=cluster.scheduler_address)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 0}, "--workers 0 must be greater than 0"),
        ({"device": "cuda:0,x"}, "as in cuda:0,1"),
        ({"device": "cuda:x"}, "as in cuda:0,1"),
        ({"device": "cuda:0,1", "workers": 2}, "Leave --workers out"),
        ({"scheduler": "tcp://a:1", "workers": 2}, "without --workers"),
    ],
)
def test_who_works_is_asked_for_in_one_way(scene, tmp_path, options, words):
    with pytest.raises(OptionError, match=words):
        run(scene, tmp_path, "a", **options)


@pytest.fixture
def mortal(tmp_path):
    """A scheduler that is a process of its own, with a worker."""
    file = tmp_path / "scheduler.json"
    words = ["--scheduler-file", file, "--no-dashboard"]
    start = [sys.executable, "-m", "distributed.cli.dask_"]
    with (
        subprocess.Popen(
            [*start[:-1], f"{start[-1]}scheduler", *words, "--host", "127.0.0.1", "--port", "0"],
            stderr=subprocess.DEVNULL,
        ) as scheduler,
        subprocess.Popen(
            [*start[:-1], f"{start[-1]}worker", *words, "--no-nanny"], stderr=subprocess.DEVNULL
        ) as worker,
    ):
        while not file.exists():
            time.sleep(0.05)
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(1)
        yield scheduler, str(file)
        scheduler.kill()
        worker.kill()


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_scheduler_that_goes_away_is_said(mortal, when):
    scheduler, address = mortal

    def pieces():
        for number in range(40):
            if number == 3:
                scheduler.kill()
            yield 0.1

    with cluster_at(address, {}) as crew:
        if when == "before":
            scheduler.kill()
            scheduler.wait()
        for _ in range(2):  # the second time the client has given up, or is about to
            with pytest.raises(WorkerError, match="The scheduler of the cluster went away"):
                crew.do(time.sleep, pieces(), SILENT)
        with pytest.raises(WorkerError, match="The scheduler of the cluster went away"):
            _ = crew.most


def test_errors_of_pieces_of_work_are_not_taken_for_those_of_the_scheduler(cluster):
    with Client(cluster, set_as_default=False) as client, pytest.raises(TimeoutError, match="slow"):
        Cluster(client).do(fail, [TimeoutError("a slow disk")], SILENT)


def fail(error):
    raise error


def read_and_fail(kind):
    """Fail as reading and writing do, with an error of GDAL or of the disk behind it."""
    if kind == "disk":
        raise OutputError("The store cannot be written.") from OSError(errno.ENOSPC, "full")
    with readable("damaged.tif"), rasterio.open("no such file"):
        pass


def test_what_a_worker_says_arrives_as_it_is_without_what_gdal_said(cluster, tmp_path):
    with Client(cluster, set_as_default=False) as client:
        with pytest.raises(InputError, match=r"damaged\.tif cannot be read \(no such file"):
            Cluster(client).do(read_and_fail, ["gdal"], SILENT)
        with pytest.raises(OutputError, match="cannot be written") as told:
            Cluster(client).do(read_and_fail, ["disk"], SILENT)
    assert disk_is_full(told.value, tmp_path / "gone")


def test_what_the_client_hands_out_is_bounded(cluster):
    landed, ahead = [], []

    class Counting:
        def update(self, *_):
            landed.append(1)

    def items():
        for n in range(40):
            ahead.append(n - len(landed))
            yield n

    with Client(cluster.scheduler_address) as client:
        most = AHEAD * sum(client.nthreads().values())
        assert Cluster(client).do(abs, items(), Counting()) == list(range(40))
    assert len(landed) == 40
    assert max(ahead) < most  # whoever is handed one more has all the others unfinished


def test_a_network_is_loaded_once_a_process_and_must_have_the_same_weights():
    stands = resident(load_model, {"name": "river-tiny", "device": "cpu"})
    assert stands.network is stands.network
    assert stands.size == stands.network.size
    with pytest.raises(ModelError, match="other weights"):
        _ = replace(stands, signature="0" * 64).size


def test_a_network_goes_with_the_last_that_stands_for_it():
    stands = resident(load_model, {"name": "river-tiny", "device": "cpu"})
    network = weakref.ref(stands.network)
    assert pickle.loads(pickle.dumps(stands)).network is network()  # sent to this very process
    assert len(pickle.dumps(stands)) < 1000
    del stands
    gc.collect()
    assert network() is None


def test_a_network_that_was_sent_is_loaded_once_in_each_worker(cluster):
    stands = resident(load_model, {"name": "river-tiny", "device": "cpu"})
    with Client(cluster, set_as_default=False) as client:
        told = Cluster(client).do(place_of, [stands] * 6, SILENT)
    assert 1 <= len(set(told)) <= 2


def place_of(stands):
    return os.getpid(), id(stands.network)


def test_what_stands_for_a_network_is_clicked_like_the_network(monkeypatch):
    plain = type(ManyMaskModel).__instancecheck__

    def since_python_3_12(cls, model):
        if cls is not ManyMaskModel:
            return plain(cls, model)
        return inspect.getattr_static(model, "decode_all", None) is not None

    monkeypatch.setattr(type(ManyMaskModel), "__instancecheck__", since_python_3_12)
    stands = resident(load_model, {"name": "river-tiny", "device": "cpu", "tile_size": 64})
    assert not isinstance(stands, ManyMaskModel)
    features = encode_picture(stands, np.full((3, 64, 64), 0.5, np.float32))
    ((_, logits, _),) = decode_clicks(stands, features, np.array([[9.0, 9.0]]))
    assert logits.shape == (1, 3, 64, 64)


def test_each_gpu_has_a_worker_that_sees_it_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    model = FakeModel()
    environments, threads = _local_crew(Options(device="cuda:0,1"), model)
    assert [e["CUDA_VISIBLE_DEVICES"] for e in environments] == ["0", "1"]
    assert threads == DEVICE_THREADS
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8a1")  # numbers count what is visible here
    environments, _ = _local_crew(Options(device="cuda:1,0"), model)
    assert [e["CUDA_VISIBLE_DEVICES"] for e in environments] == ["GPU-8a1", "3"]
    with pytest.raises(OptionError, match="there are 2 CUDA devices"):
        _local_crew(Options(device="cuda:0,2"), model)


def loaded_on(name, device, precision, tile_size):
    """A model that says where it was put."""
    placement = type("Placement", (), {"device": torch.device(device)})
    return Placed(placement=placement)


@dataclass(frozen=True)
class Placed(FakeModel):
    placement: object = None


def test_this_process_is_on_the_first_of_several_gpus_and_each_worker_on_the_one_it_sees(
    monkeypatch,
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr("geosam.models.load.load_model", loaded_on)
    model = loading.load(Options(device="cuda:2,1"))
    assert str(model.placement.device) == "cuda:2"
    sent = pickle.loads(pickle.dumps(model))
    assert sent.network is model.network  # in this process
    with monkeypatch.context() as worker:
        worker.setattr("geosam.models.resident._HELD", {})  # a worker has loaded nothing yet
        assert str(sent.placement.device) == "cuda"
    assert str(loading.load(Options(device="cuda:1")).placement.device) == "cuda:1"
    with pytest.raises(OptionError, match="--device cuda:3: there are 3 CUDA devices"):
        loading.load(Options(device="cuda:1,3"))


def test_small_models_share_the_cores_and_large_ones_and_gpus_do_not():
    def on(device, size=256):
        placement = type("Placement", (), {"device": torch.device(device)})
        return type("Placed", (), {"placement": placement, "size": size})

    assert _side_by_side(on("cpu"), 8) == 8
    assert _side_by_side(on("cpu", 1024), 8) == 2
    assert _side_by_side(on("cpu", 1024), 1) == 1
    assert _side_by_side(on("cuda"), 8) == DEVICE_THREADS


def test_one_worker_is_one_thread_of_torch_as_well():
    before = torch.get_num_threads()
    for workers, threads in ((1, 1), (None, before)):
        with shared_threads(Options(workers=workers), FakeModel(size=1024)) as crew:
            told = crew.do(lambda _: torch.get_num_threads(), [0], SILENT, models=1)
            assert (told, torch.get_num_threads()) == ([threads], threads)
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_a_script_may_start_workers_without_a_guard(scene, tmp_path):
    script = tmp_path / "plain.py"
    script.write_text(
        "import geosam\n"
        "print('begun')\n"
        f"report = geosam.run({str(scene)!r}, {str(tmp_path / 'a.gpkg')!r}, workers=2)\n"
        "print(report.outlines, __file__)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    begun, found = done.stdout.splitlines()
    assert begun == "begun" and found.split() == [found.split()[0], str(script)]
    assert int(found.split()[0]) > 0
