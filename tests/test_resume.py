"""A run that is killed, whenever, goes on where it was and ends as if nothing had happened."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

import geopandas as gpd
import pytest
import rasterio
from click.testing import CliRunner

import geosam
from geosam.batch import run_each
from geosam.cli.app import app
from geosam.errors import GeosamWarning, OptionError, OutputError
from geosam.ledger import Ledger
from geosam.options import Options
from geosam.resume import STATE, describe_run
from geosam.testing import FakeModel, write_scene
from geosam.workspace import disk_is_full

RUN = """
import sys, torch, geosam, geosam.segmentation
torch.set_num_threads(2)
geosam.segmentation.GROUP_PX = 192
geosam.run(sys.argv[1], sys.argv[2], probability=sys.argv[3], resolution=1, resume=sys.argv[4] == "resume")
"""


@dataclass(frozen=True)
class Counting:
    """A model that counts the tiles it encodes, and may be told to fail at one of them."""

    inner: object
    encoded: list = field(default_factory=list)
    fail_at: int | None = None
    error: BaseException | None = None

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def encode(self, pixels):
        if self.fail_at is not None and sum(self.encoded) >= self.fail_at:
            raise self.error
        self.encoded.append(len(pixels))
        return self.inner.encode(pixels)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("scene"), shape=(256, 256), seed=1)[0]


def run(scene, folder, name, **options):
    return geosam.run(
        scene, folder / f"{name}.gpkg", probability=folder / f"{name}.tif", resolution=1, **options
    )


def assert_same(folder, one, other):
    """Compare two runs: rasters byte by byte, layers row by row but for their times."""
    assert (folder / f"{one}.tif").read_bytes() == (folder / f"{other}.tif").read_bytes()
    for layer in ("outlines", "islands", "prompts", "prompt_masks", "tiles"):
        a, b = (gpd.read_file(folder / f"{n}.gpkg", layer=layer) for n in (one, other))
        assert a.geometry.to_wkb().equals(b.geometry.to_wkb())
        columns = [c for c in a if c not in ("geometry", "seconds")]
        assert a[columns].equals(b[columns])


def interrupt(scene, folder, after=1, **options):
    """Start a run and stop it, as Ctrl-C does, when some tiles have been encoded."""
    model = Counting(FakeModel(), fail_at=after, error=KeyboardInterrupt())
    with (
        pytest.warns(GeosamWarning, match="blocks in flight are finished"),
        pytest.raises(
            KeyboardInterrupt, match=r"cut\.gpkg\.partial; the same command with --resume"
        ),
    ):
        run(scene, folder, "cut", model=model, workers=1, **options)
    return model


def refused(words):
    """Expect an error with some words, that leaves the unfinished work where it is."""
    stack = ExitStack()
    stack.enter_context(pytest.warns(GeosamWarning, match="unfinished work stays in"))
    stack.enter_context(pytest.raises(OutputError, match=words))
    return stack


def kept(folder, name, step="segment.answers/tiles"):
    """The finished blocks of a step, and when each was written."""
    files = (folder / f"{name}.gpkg.partial" / step).glob("*.npz")
    return {path.name: path.stat().st_mtime_ns for path in files}


def kill_when(condition, command):
    """Start a process and kill it as soon as a condition holds, which it must while it runs."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    while process.poll() is None and not condition():
        time.sleep(0.005)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert alive, errors.decode()


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(tmp_path, monkeypatch):
    scene = write_scene(tmp_path, shape=(768, 768), seed=1)[0]
    monkeypatch.setattr("geosam.segmentation.GROUP_PX", 192)
    tiny = geosam.load_model()
    whole = Counting(tiny)
    report = run(scene, tmp_path, "whole", model=whole)
    partial = tmp_path / "cut.gpkg.partial"
    files = [scene, tmp_path / "cut.gpkg", tmp_path / "cut.tif"]
    moments = [
        lambda: (partial / "learned").is_dir(),
        lambda: len(kept(tmp_path, "cut", "coarse")) >= 1,
        lambda: len(kept(tmp_path, "cut")) >= 1,
        lambda: len(kept(tmp_path, "cut")) >= 4,
        lambda: len(kept(tmp_path, "cut", "probability")) >= 1,
        lambda: (partial / "mask.tif").exists(),
    ]
    before, redone = {}, 0
    for k, moment in enumerate(moments):
        how = "resume" if partial.exists() else "start"
        kill_when(moment, [sys.executable, "-c", RUN, *map(str, files), how])
        now = kept(tmp_path, "cut")
        redone += sum(now[name] != before[name] for name in before)
        before = now
        assert not files[1].exists(), k
    assert redone == 0
    last = Counting(tiny)
    again = run(scene, tmp_path, "cut", model=last, resume=True)
    assert (sum(whole.encoded), sum(last.encoded)) == (report.tiles["done"], 0)
    assert again.tiles == report.tiles
    assert_same(tmp_path, "whole", "cut")
    assert not partial.exists()


def test_what_was_answered_is_never_asked_again(scene, tmp_path, monkeypatch):
    monkeypatch.setattr("geosam.segmentation.GROUP_PX", 128)
    whole = Counting(FakeModel())
    run(scene, tmp_path, "whole", model=whole)
    cut = interrupt(scene, tmp_path, after=6)
    answered = kept(tmp_path, "cut")
    assert answered
    again = Counting(FakeModel())
    run(scene, tmp_path, "cut", model=again, resume=True)
    lost = sum(cut.encoded) + sum(again.encoded) - sum(whole.encoded)
    assert 0 <= lost <= 4  # the tiles of the one block in flight
    assert sum(again.encoded) < sum(whole.encoded)
    assert_same(tmp_path, "whole", "cut")


@pytest.fixture
def cut(scene, tmp_path):
    """A run that was interrupted after some blocks."""
    interrupt(scene, tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resolution": 2}, "--resolution was 1 and is 2"),
        ({"seed": 5}, "--seed was 0 and is 5"),
        ({"model": FakeModel(signature="1" * 64)}, "the model's weights changed"),
    ],
)
def test_what_blocks_depend_on_must_be_as_it_was(scene, cut, options, words):
    options = {"resolution": 1, "model": FakeModel(), **options}
    files = kept(cut, "cut", "coarse")
    with refused(words):
        geosam.run(scene, cut / "cut.gpkg", resume=True, probability=cut / "cut.tif", **options)
    assert kept(cut, "cut", "coarse") == files != {}


def test_a_scene_that_changed_is_refused(scene, tmp_path):
    copy = tmp_path / "copy.tif"
    copy.write_bytes(scene.read_bytes())
    interrupt(copy, tmp_path)
    with rasterio.open(copy, "r+") as target:
        target.write(target.read(1) + 1, 1)
    with refused("scene's fingerprint changed"):
        run(copy, tmp_path, "cut", model=FakeModel(), resume=True)


def test_other_outputs_may_be_asked_for(scene, cut):
    report = run(
        scene, cut, "cut", model=FakeModel(), resume=True, mask=cut / "mask.tif", threshold=0.6
    )
    assert (cut / "mask.tif").exists()
    assert report.exit_status == 0


def test_rasters_that_are_complete_are_not_written_again(scene, tmp_path, monkeypatch):
    import geosam.runs

    write, written = geosam.runs.write_raster, []

    def told(array, path, **how):
        written.append(path.name)
        write(array, path, **how)

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("geosam.runs.write_raster", told)
    outlines = geosam.runs.outlines
    monkeypatch.setattr("geosam.runs.outlines", stop)
    with pytest.raises(KeyboardInterrupt):
        run(scene, tmp_path, "cut", model=FakeModel(), mask=tmp_path / "cut_mask.tif")
    assert written == ["probability.tif", "mask.tif"]
    how = {"model": FakeModel(), "resume": True, "mask": tmp_path / "cut_mask.tif"}
    with pytest.raises(KeyboardInterrupt):
        run(scene, tmp_path, "cut", **how)
    assert len(written) == 2
    monkeypatch.setattr("geosam.runs.outlines", outlines)
    run(scene, tmp_path, "cut", threshold=0.8, **how)
    assert written[2:] == ["mask.tif"]
    monkeypatch.undo()
    run(scene, tmp_path, "whole", model=FakeModel(), mask=tmp_path / "mask.tif", threshold=0.8)
    assert_same(tmp_path, "whole", "cut")
    assert (tmp_path / "mask.tif").read_bytes() == (tmp_path / "cut_mask.tif").read_bytes()


def test_a_run_killed_while_it_gave_final_names_replaces_its_own_files_alone(
    scene, cut, monkeypatch
):
    import geosam.workspace

    move = geosam.workspace._move

    def stop(source, target):
        if target.suffix == ".gpkg":
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr("geosam.workspace._move", stop)
    with pytest.raises(KeyboardInterrupt):
        run(scene, cut, "cut", model=FakeModel(), resume=True)
    assert (cut / "cut.tif").exists()
    monkeypatch.undo()
    (cut / "mask.tif").write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        run(scene, cut, "cut", model=FakeModel(), resume=True, mask=cut / "mask.tif")
    run(scene, cut, "cut", model=FakeModel(), resume=True)
    assert (cut / "cut.gpkg").exists()


def test_a_text_may_be_longer_than_the_name_of_a_file(scene):
    text = ", ".join(["water"] * 60)
    told = describe_run(Options(prompts="text", text=text, valid=f"{scene}:1"), "a", "b", {})
    assert told["--text"] == text
    assert f"the content of {scene}" in told


def test_what_cannot_be_resumed_is_said(scene, cut):
    for name, words in (("other", "nothing to resume"), ("cut", "--resume goes on and")):
        extra = {"overwrite": True} if name == "cut" else {}
        with pytest.raises((OutputError, OptionError), match=words):
            run(scene, cut, name, model=FakeModel(), resume=True, **extra)
    with pytest.raises(OutputError, match="Use --resume to go on with it, or --overwrite"):
        run(scene, cut, "cut", model=FakeModel())
    run(scene, cut, "cut", model=FakeModel(), overwrite=True)
    with pytest.raises(OutputError, match="finished: there is nothing to resume"):
        run(scene, cut, "cut", model=FakeModel(), resume=True)


def test_blocks_that_do_not_say_what_they_belong_to_are_refused(scene, cut):
    partial = cut / "cut.gpkg.partial"
    (partial / STATE).unlink()
    before = kept(cut, "cut", "coarse")
    words = ["segment", scene, "-o", cut / "cut.gpkg", "--resolution", "1", "--resume"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 2
    assert f"{partial} cannot be gone on with: run.json is missing" in done.output
    assert kept(cut, "cut", "coarse") == before != {}
    for path in partial.iterdir():
        shutil.rmtree(path)
    (partial / "faults").mkdir()  # a start that was killed before its first block is gone on with
    assert run(scene, cut, "cut", model=FakeModel(), resume=True).exit_status == 0


def test_what_is_left_of_an_interrupted_removal_is_not_gone_on_with(scene, cut, monkeypatch):
    remove = shutil.rmtree

    def stop(folder, **how):
        (folder / STATE).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("geosam.workspace.shutil.rmtree", stop)
    with pytest.raises(KeyboardInterrupt):
        run(scene, cut, "cut", model=FakeModel(), overwrite=True, seed=5)
    monkeypatch.setattr("geosam.workspace.shutil.rmtree", remove)
    with pytest.raises(OutputError, match="nothing to resume"):
        run(scene, cut, "cut", model=FakeModel(), resume=True, seed=5)
    run(scene, cut, "cut", model=FakeModel(), seed=5)
    interrupt(scene, cut, overwrite=True)
    run(scene, cut, "cut", model=FakeModel(), overwrite=True)
    assert {path.name for path in cut.iterdir()} == {"cut.gpkg", "cut.tif"}


def test_a_damaged_block_is_named(scene, cut):
    block = next((cut / "cut.gpkg.partial" / "coarse").glob("*.npz"))
    block.write_bytes(block.read_bytes()[:50])
    with refused(r"npz is damaged.*Delete it"):
        run(scene, cut, "cut", model=FakeModel(), resume=True)
    block.unlink()
    run(scene, cut, "cut", model=FakeModel(), resume=True)


def test_ctrl_c_finishes_the_blocks_in_flight_and_says_how_to_go_on(scene, tmp_path):
    """As a person does it: a signal to a process, whose one line of output is read."""
    out = tmp_path / "cut.gpkg"
    words = ["segment", str(scene), "-o", str(out), "--resolution", "0.25"]
    process = subprocess.Popen([sys.executable, "-m", "geosam", *words], stderr=subprocess.PIPE)
    while process.poll() is None and not kept(tmp_path, "cut", "coarse"):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    lines = errors.decode().splitlines()
    assert process.returncode == 130
    assert lines[-1].startswith("Interrupted. The unfinished work stays in")
    assert lines[-1].endswith("--resume goes on.")
    assert out.with_name("cut.gpkg.partial").is_dir()


def test_a_folder_of_runs_goes_on_where_it_was(scene, tmp_path, monkeypatch):
    model = FakeModel()
    monkeypatch.setattr("geosam.batch.load", lambda options: model)
    scenes = [tmp_path / f"{name}.tif" for name in ("a", "b", "c")]
    for path in scenes:
        path.write_bytes(scene.read_bytes())
    run_each(scenes[:1], tmp_path, resolution=1)
    finished = (tmp_path / "a.gpkg").stat().st_mtime_ns
    stop = Counting(FakeModel(), fail_at=1, error=KeyboardInterrupt())
    with pytest.warns(GeosamWarning), pytest.raises(KeyboardInterrupt):
        geosam.run(scenes[1], tmp_path / "b.gpkg", resolution=1, model=stop)
    reports = run_each(scenes, tmp_path, resolution=1, resume=True)
    assert list(reports) == [str(path) for path in scenes[1:]]
    assert (tmp_path / "a.gpkg").stat().st_mtime_ns == finished


def test_a_folder_of_runs_that_was_interrupted_in_the_first_stays(scene, tmp_path, monkeypatch):
    stop = Counting(FakeModel(), fail_at=1, error=KeyboardInterrupt())
    monkeypatch.setattr("geosam.batch.load", lambda options: stop)
    with (
        pytest.warns(GeosamWarning),
        pytest.raises(KeyboardInterrupt, match=r"partial; the same command with --resume goes on"),
    ):
        run_each([scene], tmp_path / "out", resolution=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scene.gpkg.partial"]


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EFBIG, "larger than the disk")]
)
def test_a_full_disk_stops_a_run_that_goes_on_when_there_is_room(
    scene, tmp_path, monkeypatch, number, words
):
    monkeypatch.setattr("geosam.segmentation.GROUP_PX", 64)
    write, written = Ledger._write, []

    def run_full(ledger, path, arrays):
        written.append(path)
        if len(written) == 12:
            raise OSError(number, os.strerror(number))
        write(ledger, path, arrays)

    monkeypatch.setattr(Ledger, "_write", run_full)
    with pytest.raises(OutputError, match=rf"{words}.*--resume goes on"):
        run(scene, tmp_path, "cut", model=FakeModel(), workers=1)
    monkeypatch.undo()
    assert not list((tmp_path / "cut.gpkg.partial").rglob("*.unfinished"))
    report = run(scene, tmp_path, "cut", model=FakeModel(), resume=True)
    assert report.outlines > 0


STUCK = """
import sys, time, geosam.runs, geosam.segmentation, geosam.cli.app
from geosam.testing import FakeModel
def segment_tiles(*_, **__):
    open(sys.argv[4] + ".stuck", "w").close()
    time.sleep(60)
geosam.segmentation.segment_tiles = segment_tiles
geosam.runs.load = lambda options: FakeModel()
geosam.cli.app.main()
"""


def test_ctrl_c_twice_does_not_wait(scene, tmp_path):
    out = tmp_path / "cut.gpkg"
    words = ["segment", str(scene), "-o", str(out), "--resolution", "1", "--prompts", "hsv"]
    process = subprocess.Popen([sys.executable, "-c", STUCK, *words], stderr=subprocess.PIPE)
    while process.poll() is None and not out.with_name("cut.gpkg.stuck").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Ctrl-C again stops at once" in errors.decode()
    assert errors.decode().splitlines()[-1].endswith("--resume goes on.")


def test_a_folder_that_is_gone_is_no_full_disk(tmp_path):
    assert not disk_is_full(RuntimeError("something else"), tmp_path / "gone")
    assert disk_is_full(OSError(28, "No space left on device"), tmp_path / "gone")
