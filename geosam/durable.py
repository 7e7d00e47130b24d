"""What a run computes only once: rasters, blends and prompts, block by block onto disk.

A step is a function of a part of the scene. A block is one piece of work: whoever does it looks at the
part of the scene around it, does the step there and keeps what comes out. No graph and no array is as
large as the scene, and a piece can be done in a thread, another process or on another machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed
from odc.geo.geobox import GeoBox

from geosam.answers import Answers
from geosam.clock import Clock
from geosam.crew import Crew
from geosam.grids import geobox_of
from geosam.kept import Kept, KeptPrompts, cut_blocks, group_blocks, on_grid
from geosam.ledger import Index, Ledger
from geosam.masks import SKIPPED_NODATA, TileMask
from geosam.mosaic import UNKNOWN, Answer, Mosaic, Work, blended
from geosam.pixels import KeptPixels, kept_dtype
from geosam.progress import Bar, count
from geosam.prompts.automatic import NODATA
from geosam.prompts.scene_prompts import ScenePrompts, to_arrays
from geosam.sweep import Kind, sweep
from geosam.tasks import compute, task
from geosam.tiles import Groups, TileGrid, TileGroup, around, group_tiles
from geosam.types import Window
from geosam.views import Around, Looks, Views, covering

BLOCK_PX = 1024
"""Side of the blocks of a raster."""
_LABELS = {
    "coarse": "Coarse mask",
    "mask_prompt": "Mask prompt",
    "segment_prompts": "Prompts",
    "learned_wider": "Learned wide",
    "colours": "Water colours",
    "evidence": "What speaks for water",
}

Step = Callable[[Looks], xr.DataArray]
"""A part of the scene -> a raster (y, x) on one of its grids, lazy."""
Lay = Callable[[Looks], Mosaic]
"""A part of the scene -> the mosaic of it."""
Draw = Callable[[Looks], Mapping[Index, Delayed]]
"""A part of the scene -> tasks that give the prompts of its groups, on the pixels of its working grid."""


@dataclass(frozen=True)
class Tiling:
    """The tiles that a mosaic is blended from."""

    grid: TileGrid
    """All of them."""
    per_side: int
    """How many a side are a group."""
    on: str = "working"
    """Which of the looks at the scene has their grid."""
    with_model: bool = False
    """Whether the model answers them, which may be too large for many groups at a time."""

    @property
    def groups(self) -> Groups:
        """The tiles in groups."""
        return group_tiles(self.grid, self.per_side)


class Keep(Protocol):
    """What becomes of results that later steps read more than once."""

    def raster(self, step: Step, name: str, margin: int = 0, on: str = "working") -> Step:
        """Return the same step, done once, or still lazy."""

    def mosaic(self, lay: Lay, tiling: Tiling, name: str) -> Step:
        """Return the step that gives the blended logits of the tiles of a grid."""

    def prompts(self, draw: Draw, grid: TileGrid, per_side: int, name: str) -> Draw:
        """Return what gives the prompts of each group, drawn once, or to be drawn."""

    def hold(self, values: xr.DataArray, name: str) -> Step:
        """Return the step that gives a raster which is in memory."""

    def learn(self, lesson: Lesson, name: str) -> Learned:
        """Return what gives the conclusion of a lesson for a part of the scene."""


Learned = Callable[[Looks, xr.DataArray], Any]
"""A part of the scene, and the values there that are learned from -> what is concluded, or a task that
gives it; None where nothing is."""


@dataclass(frozen=True)
class Lesson:
    """What is learned about a scene from samples of it."""

    values: Step
    """What is sampled, on the working grid."""
    sample: Callable[[xr.DataArray, Looks, GeoBox, int], Delayed]
    """Takes the values, looks that cover a part and the margin, the part, and the number of parts that are
    sampled; makes a task of it that gives arrays by name."""
    conclude: Callable[[Sequence[Mapping[str, np.ndarray]]], Any]
    """Turns samples into what they tell of the scene; those of parts without data are empty."""
    windows: Mapping[Any, Window]
    """Parts of the working grid that are sampled."""
    margin: int
    """Pixels of the working grid around a part that its sample depends on."""

    def draw(self, window: Window, around: Around, grid: GeoBox) -> Delayed | dict[str, np.ndarray]:
        """Return a task that samples a window of the working grid; nothing where it has no data."""
        looks = around(part_of(grid, window, self.margin))
        if looks is None:
            return {}
        return self.sample(self.values(looks), looks, grid[window.slices()], len(self.windows))


@dataclass(frozen=True)
class Lazy:
    """Keeps nothing: everything stays one lazy graph."""

    looks: Views
    """The whole scene."""

    def raster(self, step: Step, name: str, margin: int = 0, on: str = "working") -> Step:
        """Return a step that gives what the step gives of the whole."""
        return partial(_cut, values=step(self.looks), on=on)

    def mosaic(self, lay: Lay, tiling: Tiling, name: str) -> Step:
        """Return a step that gives the blended logits of the whole, lazily."""
        logits = on_grid(blended(lay(self.looks)), tiling.grid.geobox)
        return partial(_cut, values=logits, on=tiling.on)

    def prompts(self, draw: Draw, grid: TileGrid, per_side: int, name: str) -> Draw:
        """Return what draws them."""
        return draw

    def hold(self, values: xr.DataArray, name: str) -> Step:
        """Return a step that gives the values."""
        return partial(_cut, values=values)

    def learn(self, lesson: Lesson, name: str) -> Learned:
        """Return what gives a task that concludes from samples of the whole."""
        grid = geobox_of(self.looks.working)
        found = [lesson.draw(w, self.looks.around, grid) for w in lesson.windows.values()]
        return partial(everywhere, concluded=task(lesson.conclude)(found))


def _cut(looks: Looks, values: xr.DataArray, on: str = "working") -> xr.DataArray:
    """Return what a part of the scene has of values of the whole."""
    window = covering(looks.grid(on), geobox_of(values))
    return values[window.slices()]


def everywhere(looks: Looks, values: xr.DataArray, concluded: Any) -> Any:
    """Return what holds for the whole scene."""
    return concluded


@dataclass(frozen=True)
class Durable:
    """Keeps everything in the folder of unfinished work."""

    folder: Path
    """Where."""
    crew: Crew
    """Who computes."""
    clock: Clock
    """Times the steps."""
    views: Views
    """The scene."""
    show: bool = False
    """Whether to show progress."""

    def with_pixels(self) -> Durable:
        """Read the blocks of the model's grid that are not kept yet, and return what looks at these from now on."""
        blocks = cut_blocks(self.views.grid(), BLOCK_PX)
        ledger = Ledger(self.folder / "pixels", level=0)
        kept = KeptPixels(ledger, blocks, self.views.around, kept_dtype(self.views))
        self._fill(ledger, blocks.indices(), kept.keep, "pixels")
        return replace(self, views=replace(self.views, around=kept))

    def raster(self, step: Step, name: str, margin: int = 0, on: str = "working") -> Kept:
        """Do a step in the blocks that are not kept yet.

        Parameters
        ----------
        step
            Gives uint8, :data:`NODATA` where the scene has no data.
        name
            What the blocks are kept under.
        margin
            Pixels around a block that it depends on.
        on
            Which of the looks at the scene has the grid of what it gives.
        """
        grid = geobox_of(getattr(self.views, on))
        kept = Kept(Ledger(self.folder / name), cut_blocks(grid, BLOCK_PX), on=on)
        make = partial(_make_block, kept=kept, step=step, around=self.views.around, margin=margin)
        self._fill(kept.ledger, kept.blocks.indices(), make, name)
        return kept

    def mosaic(self, lay: Lay, tiling: Tiling, name: str) -> Kept:
        """Answer the groups that are not kept yet, and blend them."""
        grid, groups, answers = tiling.grid, tiling.groups, self.answers(name)
        # Logits are noise to a compressor: it would take a tenth of the time of a whole run.
        ledger = Ledger(self.folder / name, level=0)
        kept = Kept(ledger, group_blocks(grid, groups), "float32", tiling.on)
        ask = partial(
            _keep_answer, lay=lay, around=self.views.around, grid=grid.geobox, answers=answers
        )
        join = partial(_blend_block, kept=kept, answers=answers)
        advance = partial(_advance, ask=ask, join=join, answers=answers)
        missing = set(groups) - ledger.finished()
        needed = {near for index in missing for near in around(index)} & set(groups)
        asked = needed - answers.finished() if needed else needed
        stages = sweep(sorted(groups), asked, missing, self.crew.most)
        done = 2 * len(groups) - len(asked) - len(missing)
        with self._count(name, len(stages) + done, done) as bar:
            items = ((stage.kind, *_with_near(groups, stage.index)) for stage in stages)
            # By all groups, not by those that are left: what is asked after a stop is computed in as many threads.
            models = len(groups) if tiling.with_model else 0
            self.crew.do(advance, items, bar, lambda number: stages[number].needs, models)
        return kept

    def prompts(self, draw: Draw, grid: TileGrid, per_side: int, name: str) -> KeptPrompts:
        """Draw the prompts of the groups that are not kept yet."""
        groups = group_tiles(grid, per_side)
        kept = KeptPrompts(Ledger(self.folder / name), grid, per_side)
        make = partial(_draw_group, draw=draw, around=self.views.around, kept=kept)
        self._fill(kept.ledger, sorted(groups), make, name, groups)
        return kept

    def hold(self, values: xr.DataArray, name: str) -> Kept:
        """Keep a raster that is in memory, on the working grid, as it is."""
        kept = Kept(Ledger(self.folder / name), cut_blocks(geobox_of(values), BLOCK_PX))
        for index in sorted(set(kept.blocks.indices()) - kept.ledger.finished()):
            kept.save(index, values.values[kept.blocks.window(index).slices()])
        return kept

    def learn(self, lesson: Lesson, name: str) -> Learned:
        """Draw the samples that are not kept yet, and conclude from all of them."""
        ledger, windows = Ledger(self.folder / name), lesson.windows
        make = partial(
            _keep_sample, lesson=lesson, around=self.views.around,
            grid=geobox_of(self.views.working), ledger=ledger,
        )  # fmt: skip
        self._fill(ledger, sorted(windows), make, name, {i: (i, w) for i, w in windows.items()})
        samples = [ledger.load(index) for index in sorted(windows)]
        return partial(everywhere, concluded=lesson.conclude(samples))

    def collect(
        self, lay: Callable[[Looks, TileGroup], Work], grid: TileGrid, per_side: int, name: str
    ) -> Ledger:
        """Do what there is to do with the groups that are not done, which goes through the model, and return what
        they gave.

        Parameters
        ----------
        lay
            Says of a group what there is to do, which gives arrays by name. It is not asked where the
            scene has no data: there are no arrays then.
        grid, per_side
            The tiles, and how many a side are a group.
        name
            What they are kept under.
        """
        ledger, groups = Ledger(self.folder / name), group_tiles(grid, per_side)
        make = partial(
            _work_on_group, lay=lay, around=self.views.around, grid=grid.geobox, ledger=ledger
        )
        self._fill(ledger, sorted(groups), make, name, groups, with_model=True)
        return ledger

    def answers(self, name: str) -> Answers:
        """Return what is kept of the groups of a mosaic beside its blocks."""
        return Answers(self.folder / f"{name}.answers")

    def _fill(
        self,
        ledger: Ledger,
        indices: Sequence[Index],
        make: Callable[[Any], None],
        name: str,
        items: Mapping[Index, Any] | None = None,
        with_model: bool = False,
    ) -> None:
        """Make the blocks of a ledger that are not in it, from their indices or what these stand for."""
        done = ledger.finished()
        missing = [index for index in indices if index not in done]
        with self._count(name, len(indices), len(done)) as bar:
            asked = (index if items is None else items[index] for index in missing)
            self.crew.do(make, asked, bar, models=len(indices) if with_model else 0)

    @contextmanager
    def _count(self, name: str, total: int, done: int) -> Iterator[Bar]:
        """Time a step, and show how far it is."""
        label = _LABELS.get(name, name.capitalize())
        with self.clock.time(label.lower()), count(label, total, self.show, start=done) as bar:
            yield bar


def _make_block(index: Index, kept: Kept, step: Step, around: Around, margin: int) -> None:
    grid, window = kept.blocks.geobox, kept.blocks.window(index)
    # What lies around a block without data has nothing to tell it.
    there = around(part_of(grid, window))
    looks = there and around(part_of(grid, window, margin))
    if looks is None:
        kept.save(index, np.full((window.height, window.width), NODATA, np.uint8))
        return
    values = step(looks)
    inside = covering(grid[window.slices()], geobox_of(values))
    kept.save(index, np.asarray(compute(values.data[inside.slices()])))


def answer(group: TileGroup, lay: Lay, around: Around, grid: GeoBox) -> Answer:
    """Answer a group of tiles.

    Parameters
    ----------
    group
        The tiles, on the grid of the whole scene.
    lay
        Lays out the mosaic of a part of the scene.
    around
        Looks at a part of the scene.
    grid
        The grid.
    """
    looks = around(part_of(grid, group.read))
    if looks is None:
        return Answer(None, tuple(TileMask(SKIPPED_NODATA) for _ in group.tiles))
    mosaic = lay(looks)
    return do(mosaic.work(mosaic.groups[group.index]))


def _keep_answer(group: TileGroup, answers: Answers, **how: Any) -> None:
    answers.keep(group, answer(group, **how))


def _with_near(groups: Mapping[Index, TileGroup], index: Index) -> tuple[TileGroup, list[Index]]:
    return groups[index], [near for near in around(index) if near in groups]


def _advance(
    item: tuple[Kind, TileGroup, list[Index]],
    ask: Callable[[TileGroup], None],
    join: Callable[[TileGroup, list[Index]], None],
    answers: Answers,
) -> None:
    """Do a stage of a mosaic."""
    kind, group, near = item
    if kind == "ask":
        ask(group)
    elif kind == "blend":
        join(group, near)
    else:
        answers.drop_planes(group.index[0])


def _blend_block(group: TileGroup, near: list[Index], kept: Kept, answers: Answers) -> None:
    window = kept.blocks.window(group.index)
    whole = answers.blend(group, near)
    if whole is None:
        whole = np.full((group.core.height, group.core.width), UNKNOWN, np.float32)
    kept.save(group.index, whole[window.slices(group.core)])


def _keep_sample(
    item: tuple[Index, Window], lesson: Lesson, around: Around, grid: GeoBox, ledger: Ledger
) -> None:
    index, window = item
    ledger.save(index, compute(lesson.draw(window, around, grid)))


def _draw_group(group: TileGroup, draw: Draw, around: Around, kept: KeptPrompts) -> None:
    grid = kept.grid.geobox
    looks, prompts = around(part_of(grid, group.read)), ScenePrompts()
    if looks is not None:
        corner = covering(looks.grid(), grid)
        prompts = compute(draw(looks)[group.index]).moved(corner.col, corner.row)
    kept.ledger.save(group.index, to_arrays(prompts))


def _work_on_group(
    group: TileGroup, lay: Callable[..., Work], around: Around, grid: GeoBox, ledger: Ledger
) -> None:
    looks = around(part_of(grid, group.read))
    ledger.save(group.index, {} if looks is None else do(lay(looks, group)))


def pixels_of(step: Step, looks: Looks) -> da.Array | np.ndarray:
    """Return what a step gives of a part of the scene without coordinates, which take longer to make than
    kept pixels to be read: these are in memory, others lazy.
    """
    return step.pixels(looks) if isinstance(step, Kept) else da.asarray(step(looks).data)


def part_of(grid: GeoBox, window: Window, margin: int = 0) -> GeoBox:
    """Return the part of a grid that a window and a margin around it cover."""
    inside = window.grown(margin).intersection(Window(0, 0, *grid.shape))
    assert inside is not None
    return grid[inside.slices()]


def do(work: Work) -> Any:
    """Do a piece of work here and now; pixels that it does not ask for are not read."""
    inputs = compute(work.inputs)
    if work.pixels is None:
        return work.function(*inputs)
    return work.function(partial(_read, work.pixels), *inputs)


def _read(pixels: Callable[[], Delayed]) -> Any:
    return compute(pixels())
