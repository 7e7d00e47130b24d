"""Asking for objects of a scene: which pixel a click hits, what is encoded, how far an object is followed."""

from dataclasses import dataclass, field

import geopandas as gpd
import numpy as np
import pytest
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from rasterio.features import rasterize
from scipy import ndimage

import geosam
from geosam.errors import OptionError, PromptError
from geosam.following import EIGHT, follow
from geosam.tiles import TileGrid

NORTH_UP = Affine(10, 0, 600_000, 0, -10, 5_000_000)
ROTATED = Affine.translation(600_000, 5_000_000) * Affine.rotation(30) * Affine.scale(10, -10)
ON_ITS_SIDE = Affine(0, 10, 600_000, 10, 0, 5_000_000)
SIZE = 64


@dataclass(frozen=True)
class Clicked:
    """A model that answers with the dark parts a prompt touches, and counts what it encodes."""

    size: int = SIZE
    name: str = "clicked"
    signature: str = "1" * 64
    encoded: list = field(default_factory=list)
    fed: list = field(default_factory=list)

    def encode(self, pixels):
        self.encoded.append(len(pixels))
        return {"pixels": pixels}

    def decode(self, features, prompts):
        masks = [self._mask(p, q) for p, q in zip(features["pixels"], prompts, strict=True)]
        self.fed.extend(q.masks for q in prompts)
        return np.where(masks, 8.0, -8.0).astype("float32"), np.full(len(prompts), 0.9)

    def decode_all(self, features, prompts):
        usual, _ = self.decode(features, prompts)
        inner = [ndimage.binary_erosion(mask > 0) for mask in usual]
        outer = [ndimage.binary_dilation(mask > 0) for mask in usual]
        masks = np.stack([inner, usual > 0, outer], axis=1)
        scores = np.tile([0.5, 0.9, 0.7], (len(usual), 1))
        return np.where(masks, 8.0, -8.0).astype("float32"), scores

    def _mask(self, pixels, prompt):
        dark = pixels.mean(axis=0) < 0.4
        labels, n = ndimage.label(dark, EIGHT)
        kept = np.zeros(n + 1, bool)
        for (x, y), label in zip(prompt.points[0], prompt.labels[0], strict=True):
            kept[labels[int(y), int(x)]] = label == 1
        if prompt.boxes is not None:
            left, top, right, bottom = np.round(prompt.boxes[0]).astype(int)
            kept[np.unique(labels[top:bottom, left:right])] = True
        if prompt.masks is not None:
            kept[np.unique(labels[prompt.masks[0] > 0])] = True
        kept[0] = False
        return kept[labels]


def scene_of(dark, affine=NORTH_UP, crs="EPSG:32633", void=None):
    """A grey scene with dark parts: (band, y, x)."""
    pixels = np.repeat(np.where(dark, 0.05, 0.6)[None], 3, axis=0).astype("float32")
    if void is not None:
        pixels[:, void] = np.nan
    geobox = GeoBox(dark.shape, affine, crs)
    coords = {"band": ["red", "green", "blue"], **xr_coords(geobox)}
    return xr.DataArray(pixels, coords=coords, dims=("band", *geobox.dimensions))


def clicks(scene, *points, labels=None, objects=None, crs=None):
    """Clicks at pixels (x, y) of a scene, in any CRS."""
    affine, own = scene.odc.geobox.affine, str(scene.odc.geobox.crs)
    columns = {"label": labels or [1] * len(points), "object": objects or [1] * len(points)}
    table = gpd.GeoDataFrame(columns, geometry=[shapely.Point(affine * p) for p in points], crs=own)
    return table.to_crs(crs or own)


def ask(scene, prompts, model=None, **options):
    # The stretch as stored, and the model alone: the fake model knows what is dark.
    options = {"resolution": 10, "stretch": "0,1", "dense": False, **options}
    return geosam.ask(scene, prompts, model=model or Clicked(), **options)


def mask_of(answers, number=1, mask=1):
    return answers.probability(number, mask).values > 0.5


@pytest.fixture
def blobs():
    """Twelve dark squares, apart from one another, in a scene of several tiles."""
    dark = np.zeros((150, 200), bool)
    for row in (20, 70, 120):
        for col in (20, 70, 120, 170):
            dark[row : row + 12, col : col + 12] = True
    return dark


def part_at(dark, x, y):
    labels, _ = ndimage.label(dark, EIGHT)
    return labels == labels[y, x]


@pytest.mark.parametrize(
    "affine", [NORTH_UP, ROTATED, ON_ITS_SIDE], ids=["north up", "rotated", "on its side"]
)
@pytest.mark.parametrize("crs", [None, "EPSG:4326", "EPSG:3857"])
def test_a_click_in_any_crs_hits_its_pixel(affine, crs):
    dark = np.zeros((90, 130), bool)
    dark[41, 77] = True  # one pixel: a click a pixel beside it would miss
    scene = scene_of(dark, affine)
    answers = ask(scene, clicks(scene, (77.5, 41.5), crs=crs))
    assert (mask_of(answers) == dark).all()
    beside = ask(scene, clicks(scene, (79.5, 41.5), crs=crs))
    assert not mask_of(beside).any()
    assert beside.outlines.geometry.is_empty.all()


def test_many_prompts_encode_each_tile_once_and_are_answered_as_if_alone(blobs):
    scene, model = scene_of(blobs), Clicked()
    places = [(col + 5.5, row + 5.5) for row in (20, 70, 120) for col in (20, 70, 120, 170)]
    together = ask(scene, clicks(scene, *places, objects=list(range(1, 13))), model)
    owners = {together.prepared.grid.index_at(np.array(place)) for place in places}
    assert sum(model.encoded) == len(together.prepared.store.maps)
    assert owners <= set(together.prepared.store.maps)
    for number, place in enumerate(places, 1):
        alone = ask(scene, clicks(scene, place))
        assert (mask_of(alone) == mask_of(together, number)).all()
        assert (mask_of(alone) == part_at(blobs, int(place[0]), int(place[1]))).all()


def snake(shape=(260, 520)):
    """A line that winds through many tiles, and a square that touches nothing."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    line = np.abs(rows - shape[0] / 2 - 90 * np.sin(cols / 40)) < 9
    line[5:25, 5:25] = True
    return line


def test_an_object_of_many_tiles_is_followed_to_its_ends_and_comes_back_as_one_polygon():
    dark = snake()
    scene, model = scene_of(dark), Clicked()
    river = part_at(dark, 260, int(130 + 90 * np.sin(6.5)))
    row = int(np.flatnonzero(river[:, 260]).mean())
    answers = ask(scene, clicks(scene, (260.5, row + 0.5)), model)
    assert (mask_of(answers) == river).all()
    (outline,) = answers.outlines.geometry
    assert outline.geom_type == "Polygon"
    assert outline.area == pytest.approx(river.sum() * 100, rel=0.003)
    assert sum(model.encoded) == len(answers.prepared.store.maps)
    assert len(answers.prepared.store.maps) < len(answers.prepared.grid)


def test_following_ends_where_nothing_grows_and_asks_no_tile_without_need():
    grid = TileGrid(GeoBox((64, 640), Affine.scale(1, -1), "EPSG:32633"), SIZE, 16)
    line = np.zeros((64 + 2 * SIZE, 640 + 2 * SIZE), bool)
    line[SIZE + 20 : SIZE + 26, SIZE + 100 : SIZE + 400] = True
    asked = []

    def respond(tile, known, said):
        asked.append(tile.index)
        rows = slice(tile.read.row + SIZE, tile.read.row_end + SIZE)
        cols = slice(tile.read.col + SIZE, tile.read.col_end + SIZE)
        return np.where(line[rows, cols], 1.0, -1.0).astype("float32")

    answers = follow(grid, [grid.index_at(np.array([200, 23]))], respond)
    assert len(asked) == len(set(asked)) == len(answers)
    reached = {grid.index_at(np.array([x, 23])) for x in range(100, 400)}
    assert set(answers) == reached


def test_an_ambiguous_click_gives_three_masks_and_one_of_them_is_refined(blobs):
    scene, model = scene_of(blobs), Clicked()
    first = ask(scene, clicks(scene, (25.5, 25.5)), model, several=True)
    assert first.outlines["mask"].tolist() == [1, 2, 3]
    assert first.outlines.predicted_iou.tolist() == [0.9, 0.7, 0.5]
    sizes = first.outlines.area_m2.to_numpy()
    assert sizes[2] < sizes[0] < sizes[1]
    chosen = first.choose({1: 2})
    assert chosen.outlines["mask"].tolist() == [1]
    assert chosen.outlines.area_m2.tolist() == [sizes[1]]
    n = sum(model.encoded)
    more = clicks(scene, (75.5, 25.5))
    model.fed.clear()
    refined = ask(scene, more, earlier=chosen)
    assert {fed.dtype for fed in model.fed if fed is not None} == {np.dtype("float32")}
    both = part_at(blobs, 25, 25) | part_at(blobs, 75, 25)
    assert (mask_of(refined) == both).all()
    assert sum(model.encoded) == len(refined.prepared.store.maps) <= n + 3
    assert len(chosen.prepared.store.maps) == n  # an earlier answer stays what it was


def test_a_refusing_click_takes_its_part_away_from_an_earlier_answer(blobs):
    scene = scene_of(blobs)
    first = ask(scene, clicks(scene, (25.5, 25.5), (75.5, 25.5)))
    second = ask(scene, clicks(scene, (75.5, 25.5 + 3), labels=[0]), earlier=first)
    assert (mask_of(first) == (part_at(blobs, 25, 25) | part_at(blobs, 75, 25))).all()
    assert mask_of(second)[25, 25]


def test_what_was_drawn_of_an_object_stays_where_no_click_is_connected_to_it(blobs):
    scene = scene_of(blobs)
    corners = [scene.odc.geobox.affine * xy for xy in ((20, 20), (82, 32))]
    drawn = shapely.box(*corners[0], *corners[1]).union(shapely.Point(corners[0]).buffer(1))
    click = clicks(scene, (25.5, 25.5)).geometry.iloc[0]
    both = ask(scene, gpd.GeoSeries([click, drawn], crs="EPSG:32633"))
    assert (mask_of(both) == (part_at(blobs, 25, 25) | part_at(blobs, 75, 25))).all()


def test_boxes_polygons_and_masks_are_prompts_too(blobs):
    scene = scene_of(blobs)
    affine = scene.odc.geobox.affine
    box = shapely.box(*(affine * (18, 34)), *(affine * (34, 18)))
    triangle = shapely.Polygon([affine * p for p in ((72, 72), (80, 72), (72, 80))])
    table = gpd.GeoDataFrame({"object": [1, 2]}, geometry=[box, triangle], crs="EPSG:32633")
    rough = xr.zeros_like(scene[0], dtype="uint8").drop_vars("band")
    rough[124:128, 124:128] = 3
    answers = ask(scene, table, masks=rough)
    assert answers.outlines["object"].tolist() == [1, 2, 3]
    for number, place in ((1, (25, 25)), (2, (75, 75)), (3, (125, 125))):
        assert (mask_of(answers, number) == part_at(blobs, *place)).all()


def test_nothing_is_found_where_the_scene_has_no_data(blobs):
    void = np.zeros(blobs.shape, bool)
    void[:, :26] = True
    scene = scene_of(blobs, void=void)
    answers = ask(scene, clicks(scene, (28.5, 25.5)))
    found = answers.probability().values
    assert np.isnan(found[void]).all()
    assert ((found > 0.5) == (part_at(blobs, 28, 25) & ~void)).all()


def test_a_store_that_is_full_is_enough(tmp_path, blobs):
    from test_pipeline import save

    scene = scene_of(np.pad(blobs, 0))
    four = xr.concat([scene, scene[:1].assign_coords(band=["nir"])], "band")
    path = save(four, tmp_path / "scene.tif")
    prompts = clicks(scene, (25.5, 25.5))
    options = {"store": str(tmp_path / "store"), "composite": "red,green,blue"}
    first = ask(str(path), prompts, Clicked(), **options)
    again = Clicked()
    second = ask(str(path), prompts, again, **options)
    assert again.encoded == []
    assert (mask_of(first) == mask_of(second)).all()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda s: clicks(s, (900.5, 10.5)), "outside the scene"),
        (lambda s: clicks(s, (3.5, 3.5)), "no data"),
        (lambda s: clicks(s, (float("nan"), 5)), "row 1 has no coordinates"),
        (lambda s: clicks(s, (25.5, 25.5), (25.7, 25.2), labels=[1, 0]), "label 1 and one with label 0"),
        (lambda s: clicks(s, (25.5, 25.5), labels=[0]), "nothing but background"),
        (lambda s: clicks(s), "no rows"),
        (lambda s: clicks(s, (25.5, 25.5)).set_crs(None, allow_override=True), "no CRS"),
        (
            lambda s: gpd.GeoSeries([shapely.Polygon([(600100, 4999900)] * 4)], crs="EPSG:32633"),
            "no area",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_said_in_a_sentence(blobs, make, said):
    void = np.zeros(blobs.shape, bool)
    void[:10, :10] = True
    scene = scene_of(blobs, void=void)
    with pytest.raises(PromptError, match=said):
        ask(scene, make(scene))


def test_no_prompts_and_a_scene_of_another_grid(blobs):
    scene = scene_of(blobs)
    with pytest.raises(PromptError, match="no prompts"):
        ask(scene, None)
    first = ask(scene, clicks(scene, (25.5, 25.5)))
    with pytest.raises(PromptError, match="no mask 3 of object 1"):
        first.choose({1: 3})
    with pytest.raises(OptionError, match="another grid"):
        ask(scene_of(blobs[:100]), clicks(scene, (25.5, 25.5)), earlier=first)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_river_eight_tiles_long_is_one_polygon_from_one_click(seed):
    """With `river-tiny` as it ships, and near infrared; land and water are noisy."""
    rng, shape = np.random.default_rng(seed), (320, 1728)
    y, x = np.mgrid[: shape[0], : shape[1]]
    middle = 160 + 70 * np.sin(x / 150) + 20 * np.sin(x / 61 + 1)
    water = abs(y - middle) < 10 + 3 * np.sin(x / 90)
    cover = ndimage.gaussian_filter(rng.normal(size=shape), 12)
    land = np.array([900, 1000, 700, 3000])[:, None, None] * (1 + 0.18 * cover / cover.std())
    pixels = np.where(water, np.array([350, 500, 450, 120])[:, None, None], land)
    pixels *= 1 + 0.06 * rng.normal(size=pixels.shape)
    geobox = GeoBox(shape, NORTH_UP, "EPSG:32633")
    coords = {"band": ["red", "green", "blue", "nir"], **xr_coords(geobox)}
    scene = xr.DataArray(pixels.astype("float32"), coords=coords, dims=("band", "y", "x"))
    row = int(np.flatnonzero(water[:, 60]).mean())
    click = gpd.GeoSeries([shapely.Point(*NORTH_UP @ (60.5, row + 0.5))], crs="EPSG:32633")
    answer = geosam.ask(scene, click)
    assert answer.prepared.grid.geobox.shape[1] > 8 * answer.prepared.grid.size
    river = answer.outlines.geometry[0]
    assert river.geom_type == "Polygon"
    found = rasterize([river], out_shape=shape, transform=NORTH_UP) == 1
    assert (found & water).sum() / (found | water).sum() >= 0.9
