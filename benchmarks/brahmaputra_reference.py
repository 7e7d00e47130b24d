"""How much the reference of ``brahmaputra.py`` can tell: its lines against themselves, its widths.

    python benchmarks/brahmaputra_reference.py RIVERS.gpkg

reads what ``geosam rivers brahmaputra_30m.tif -o RIVERS.gpkg --min-island 0`` wrote, and the mask and
the links from ``../shared/data/river_masks``. The links are a thinning of the mask; the mask turned by
45 degrees is the same river, and a line that lies amid its water turns with it.
"""

import sys

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from brahmaputra import DATA, NEAR_PX, PX, matched_transects
from scipy.spatial import KDTree
from scipy.stats import spearmanr
from skimage.morphology import medial_axis, skeletonize

FINER = 2
"""Pixels of a turned mask in a pixel of the mask."""
DIRECTIONS_DEG = np.arange(0, 180, 7.5)


def turned(water, degrees, finer):
    """The mask on a turned and finer grid, and the way back from its pixels to the mask's."""
    turn = np.radians(degrees)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    height, width = water.shape
    corners = finer * np.array([[0, 0], [height, 0], [0, width], [height, width]]) @ matrix.T
    first = corners.min(axis=0)

    def back(pixels):
        return (pixels + 0.5 + first) / finer @ matrix

    rows, cols = np.ceil(corners.max(axis=0) - first).astype(int)
    out = np.zeros((rows, cols), bool)
    for row in range(rows):
        place = np.floor(back(np.stack([np.full(cols, row), np.arange(cols)], axis=1))).astype(int)
        here = np.flatnonzero(((place >= 0) & (place < water.shape)).all(axis=1))
        out[row, here] = water[tuple(place[here].T)]
    return out, back


def share_near(points, lines):
    """The share of points within 1.5 px of the pixels of a line."""
    return (KDTree(lines).query(points)[0] <= NEAR_PX).mean()


def narrowest(water, centres):
    """The shortest way from land to land through each centre, (n,), in pixels."""
    steps = np.arange(0, 200, 0.05)
    ways = []
    for turn in np.radians(DIRECTIONS_DEG):
        ahead = steps[:, None] * [np.sin(turn), np.cos(turn)]
        ways.append(
            [_until_land(water, c + ahead) + _until_land(water, c - ahead) for c in centres]
        )
    return 0.05 * np.min(ways, axis=0)


def _until_land(water, places):
    row, col = np.clip(places.astype(int), 0, np.array(water.shape) - 1).T
    return np.argmin(water[row, col])


def main(rivers):
    links = gpd.read_file(DATA / "brahmaputra_links.geojson")
    links["wid"] = links.wid.astype(float)
    long = links[links.length > 2 * links.wid]
    with rasterio.open(DATA / "brahmaputra_30m.tif") as file:
        water, to_pixel = file.read(1) == 1, ~file.transform
    points = _pixels(shapely.segmentize(long.geometry.to_numpy(), PX / 2), to_pixel)
    print("of the long links within 1.5 px of")
    for degrees, finer in ((0, 1), (0, FINER), (22.5, FINER), (45, FINER)):
        mask, back = turned(water, degrees, finer)
        near = share_near(points, back(np.argwhere(skeletonize(mask))))
        print(f"  the thinning, turned {degrees:4} degrees, {finer} pixels in one  {near:.1%}")
    near = share_near(points, np.argwhere(medial_axis(water)) + 0.5)
    print(f"  the medial axis of scikit-image                   {near:.1%}")
    found = {name: gpd.read_file(rivers, layer=name) for name in ("centerlines", "transects")}
    found["transects"]["flag"] = found["transects"].flag.fillna("")
    reference, transects = matched_transects(long, found)
    middles = shapely.line_interpolate_point(transects.geometry.to_numpy(), 0.5, normalized=True)
    least = narrowest(water, _pixels(middles, to_pixel))
    over = np.median(least / (reference / PX - 1) - 1)
    print(
        f"narrowest way across at {len(least)} matched places against wid_pix - 1 px  {over:+.1%}"
    )
    rho = spearmanr(long.wid, long.wid_adj.astype(float)).statistic
    print(f"Spearman of wid and wid_adj of the long links  {rho:.3f}")


def _pixels(geometry, to_pixel):
    """The coordinates of points as (row, col) of the mask."""
    cols, rows = to_pixel @ shapely.get_coordinates(geometry).T
    return np.stack([rows, cols], axis=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
