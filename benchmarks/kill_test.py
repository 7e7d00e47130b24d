"""A run that is killed again and again against one that was not: the same bytes, and little done twice.

    python benchmarks/kill_test.py [--size 2560] [--kills 10] [--workers N] [--folder DIR]

Makes a scene, segments it with river-tiny, then does the same again with `kill -9` to the whole process
tree at moments spread over encoding, writing and polygonising, each time going on with --resume. Prints for
every kill when it came, what was finished, and how many finished blocks were ever written again; at the
end the seconds of both runs and whether rasters and layers are the same.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STEPS = ("learned.answers/tiles", "coarse", "segment_prompts", "segment.answers/tiles", "segment",
         "probability")  # fmt: skip
"""Folders of finished blocks, in the order in which they fill."""
LAYERS = ("outlines", "islands", "prompts", "prompt_masks", "tiles")


@dataclass(frozen=True)
class Moment:
    """When to kill."""

    name: str
    step: str
    """Folder of finished blocks, or a file."""
    share: float
    """Of the blocks that the run without a kill made."""


def moments(kills: int) -> list[Moment]:
    """Spread kills over the run: most while encoding, then while writing and polygonising."""
    late = [
        Moment("writing blocks", "probability", 0.3),
        Moment("writing blocks", "probability", 0.9),
        Moment("writing rasters", ".probability.tif.plain.tif", 0.0),
        Moment("polygonising", "mask.tif", 0.0),
    ]
    early = [Moment("coarse mask", "coarse", 0.5)]
    n = max(1, kills - len(early) - len(late))
    middle = [Moment("encoding", "segment.answers/tiles", (k + 0.5) / n) for k in range(n)]
    return [*early, *middle, *late][:kills]


def command(scene: Path, output: Path, workers: int | None, how: str) -> list[str]:
    words = [sys.executable, "-m", "geosam", "segment", str(scene), "-o", str(output), "--quiet"]
    words += ["--resolution", "1", "--probability", str(output.with_suffix(".tif"))]
    return [*words, *([f"--workers={workers}"] if workers else []), *([how] if how else [])]


def blocks(partial: Path) -> dict[str, int]:
    """Finished blocks by name, and when each was written."""
    found = {}
    for step in STEPS:
        for path in (partial / step).glob("*.npz"):
            found[f"{step}/{path.name}"] = path.stat().st_mtime_ns
    return found


def count(partial: Path, step: str) -> int:
    return sum(1 for _ in (partial / step).glob("*.npz"))


def reached(partial: Path, moment: Moment, total: dict[str, int]) -> bool:
    path = partial / moment.step
    if moment.step in total:
        return count(partial, moment.step) > moment.share * total[moment.step]
    return path.exists()


def watch(words: list[str], partial: Path, seen: dict[str, int]) -> float:
    """Run to the end, and remember the most blocks that each step had; return the seconds."""
    started = time.perf_counter()
    process = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        for step in STEPS:
            seen[step] = max(seen.get(step, 0), count(partial, step))
        time.sleep(0.2)
    assert process.returncode == 0, process.returncode
    return time.perf_counter() - started


def kill_at(words: list[str], partial: Path, moment: Moment, total: dict[str, int]) -> float | None:
    """Run until a moment and kill the whole tree; None if the run ended before."""
    started = time.perf_counter()
    process = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL)
    while process.poll() is None and not reached(partial, moment, total):
        time.sleep(0.005)
    if process.poll() is not None:
        return None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return time.perf_counter() - started


def killed(
    scene: Path, output: Path, workers: int | None, kills: int, total: dict[str, int]
) -> Iterator[str]:
    """Kill again and again, then run to the end; give the lines of the log."""
    partial, before = output.with_name(output.name + ".partial"), {}
    spent, again, unfinished = 0.0, 0, 0
    for number, moment in enumerate(moments(kills), start=1):
        words = command(scene, output, workers, "--resume" if partial.exists() else "")
        seconds = kill_at(words, partial, moment, total)
        if seconds is None:
            yield f"{number:4}  {moment.name:16} the run had ended"
            continue
        now = blocks(partial)
        # Planes are dropped by design; of what stays nothing may be written twice.
        redone = sum(now.get(name, stamp) != stamp for name, stamp in before.items())
        flying = sum(1 for _ in partial.rglob("*.unfinished"))
        spent, again, unfinished = spent + seconds, again + redone, unfinished + flying
        before = now
        yield f"{number:4}  {moment.name:16} {seconds:8.1f} {len(now):9} {redone:12} {flying:11}"
    seconds = watch(command(scene, output, workers, "--resume"), partial, {})
    yield f"last  {'to the end':16} {seconds:8.1f}"
    yield f"{spent + seconds:.1f} s in all, {again} finished blocks written again"


def same(one: Path, other: Path) -> bool:
    """Compare rasters byte by byte, layers row by row but for their times."""
    import geopandas as gpd

    equal = one.with_suffix(".tif").read_bytes() == other.with_suffix(".tif").read_bytes()
    for layer in LAYERS:
        a, b = (gpd.read_file(path, layer=layer) for path in (one, other))
        columns = [name for name in a if name not in ("geometry", "seconds")]
        equal &= a.geometry.to_wkb().equals(b.geometry.to_wkb()) and a[columns].equals(b[columns])
    return equal


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=2560)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    from geosam.testing import write_scene

    with tempfile.TemporaryDirectory() as made:
        folder = arguments.folder or Path(made)
        scene = write_scene(folder, shape=(arguments.size,) * 2, seed=1)[0]
        whole, cut, total = folder / "whole.gpkg", folder / "cut.gpkg", {}
        partial = whole.with_name("whole.gpkg.partial")
        seconds = watch(command(scene, whole, arguments.workers, ""), partial, total)
        print(f"without a kill: {seconds:.1f} s, blocks {total}")
        print(
            f"kill  {'during':16} {'after, s':>8} {'finished':>9} {'redone of it':>12} {'in flight':>11}"
        )
        for line in killed(scene, cut, arguments.workers, arguments.kills, total):
            print(line, flush=True)
        print("rasters and layers the same:", same(whole, cut))


if __name__ == "__main__":
    main()
