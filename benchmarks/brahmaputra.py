"""Centrelines and widths of the braided Brahmaputra, against the links that RivGraph computed.

    python benchmarks/brahmaputra.py [FOLDER]

reads ``brahmaputra_30m.tif`` and ``brahmaputra_links.geojson`` from ``../shared/data/river_masks`` and
writes ``brahmaputra.png`` into FOLDER (by default the current one). The reference is a computation,
not a survey: its lines are the mask's Zhang-Suen thinning, and its widths twice the distance
transform, which is a pixel too wide where a channel is an odd number of pixels wide.
"""

import resource
import sys
import time
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import matplotlib as mpl
import numpy as np
import shapely
from scipy.spatial import KDTree
from scipy.stats import spearmanr

import geosam
from geosam.rivers.scene_edge import footprint

mpl.use("Agg")
import matplotlib.pyplot as plt

DATA = Path(__file__).parents[2] / "shared" / "data" / "river_masks"
PX = 30.0
NEAR_PX = 1.5


def measure(mask):
    started = time.perf_counter()
    # The reference keeps every island, also those of one pixel.
    water = geosam.outlines(mask, min_island=0)
    found = geosam.measure_rivers(water, edge=footprint(mask), pixel_m=PX)
    return found, time.perf_counter() - started


def distances_px(links, lines):
    """For each link the distances of its points from the nearest centreline, in pixels."""
    lines = shapely.multilinestrings(lines.geometry.to_numpy())
    shapely.prepare(lines)
    dense = shapely.segmentize(links.geometry.to_numpy(), PX / 2)
    return [shapely.distance(lines, shapely.points(shapely.get_coordinates(d))) / PX for d in dense]


def tell_by_class(links, distances):
    """Print the share near a centreline by the links' width and by the way to their nearer end."""
    near = np.concatenate(distances) <= NEAR_PX
    counts = [len(d) for d in distances]
    width = np.repeat(links.wid.astype(float).to_numpy(), counts)
    to_end = np.concatenate([np.minimum(np.arange(n), np.arange(n)[::-1]) for n in counts])
    classes = {
        "width, px": (width / PX, (0, 5, 10, 20, 1000)),
        "way to an end, widths": (to_end * (PX / 2) / width, (0, 0.5, 1, 2, 1000)),
    }
    for name, (values, limits) in classes.items():
        for low, high in pairwise(limits):
            of = (values >= low) & (values < high)
            print(f"  {name} {low} to {high:<6} {near[of].mean():.1%} of {of.mean():.0%}")


def matched_widths(links, found):
    """The width of each link and of the reach that runs along it; (reference, ours) in metres."""
    lines = found["centerlines"].geometry.to_numpy()
    widths = found["reaches"].width_mean_m.to_numpy()
    tree = shapely.STRtree(lines)
    pairs = []
    for link, width in zip(links.geometry, links.wid.astype(float), strict=True):
        points = shapely.line_interpolate_point(link, np.arange(PX / 2, link.length, PX / 2))
        nearest, away = tree.query_nearest(points, return_distance=True, all_matches=False)
        reach, share = _most(nearest[1][away <= NEAR_PX * PX], len(points))
        # The same channel from node to node, and not two that share a part.
        alike = reach is not None and 0.8 < lines[reach].length / link.length < 1.25
        if alike and share > 0.8 and np.isfinite(widths[reach]):
            pairs.append((width, widths[reach]))
    return np.array(pairs)


def matched_transects(links, found):
    """Transects of side channels whose middle lies on a link, after its width there in metres."""
    listed = [np.array(text.split(","), float) for text in links.wid_pix]
    points = [shapely.get_coordinates(link) for link in links.geometry]
    # Some links have no width for each of their points.
    whole = [len(p) == len(w) for p, w in zip(points, listed, strict=True)]
    places = np.concatenate([p for p, ok in zip(points, whole, strict=True) if ok])
    widths = np.concatenate([w for w, ok in zip(listed, whole, strict=True) if ok])
    transects = found["transects"][found["transects"].flag == ""]
    main = found["centerlines"].reach_id[found["centerlines"].main]
    side = transects[~transects.reach_id.isin(main)]
    middles = shapely.line_interpolate_point(side.geometry.to_numpy(), 0.5, normalized=True)
    away, nearest = KDTree(places).query(shapely.get_coordinates(middles))
    near = away <= NEAR_PX * PX
    return widths[nearest[near]], side[near]


def _most(numbers, total):
    if len(numbers) == 0:
        return None, 0.0
    values, counts = np.unique(numbers, return_counts=True)
    return values[counts.argmax()], counts.max() / total


def draw(pairs, found, links, path):
    figure, axes = plt.subplots(1, 2, figsize=(12, 6), layout="constrained")
    axes[0].loglog(*pairs.T, ".", ms=3)
    axes[0].loglog([20, 5000], [20, 5000], "k-", lw=0.8, label="equal")
    reference = np.geomspace(PX + 10, 5000)
    axes[0].loglog(reference, reference - PX, "k--", lw=0.8, label="one pixel less")
    axes[0].set(xlabel="reference width, m", ylabel="width of the transect, m")
    axes[0].legend()
    found["outlines"].plot(ax=axes[1], color="#cfe3f2")
    links.plot(ax=axes[1], color="black", lw=1.0, label="reference")
    found["centerlines"].plot(ax=axes[1], color="tab:red", lw=0.8, label="geosam")
    axes[1].set(xlim=(775000, 787000), ylim=(2.683e6, 2.697e6))
    axes[1].legend()
    figure.savefig(path, dpi=120)


def main(folder="."):
    mask, links = DATA / "brahmaputra_30m.tif", gpd.read_file(DATA / "brahmaputra_links.geojson")
    found, seconds = measure(mask)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    long = links[links.length > 2 * links.wid.astype(float)]
    each = distances_px(long, found["centerlines"])
    away = np.concatenate(each)
    pairs = matched_widths(long, found)
    print(f"outlines, network, transects   {seconds:.1f} s, {peak_gb:.2f} GB at most")
    print(f"reaches, transects             {len(found['reaches'])}, {len(found['transects'])}")
    print(f"links longer than two widths   {len(long)} of {len(links)}")
    print(f"of their length within 1.5 px  {(away <= NEAR_PX).mean():.1%}")
    tell_by_class(long, each)
    print(f"distance, median and 95 %      {np.median(away):.2f}, {np.quantile(away, 0.95):.2f} px")
    print("widths at              number  Spearman  median against wid - 1 px, - 0.5 px")
    reference, transects = matched_transects(long, found)
    places = np.stack([reference, transects.width_m.to_numpy()], axis=1)
    for name, both in (("matched places", places), ("whole reaches", pairs)):
        errors = [np.median(both[:, 1] / (both[:, 0] - off * PX) - 1) for off in (1, 0.5)]
        rho = spearmanr(*both.T).statistic
        print(f"{name:<22} {len(both):6d}  {rho:8.3f}  {errors[0]:+.1%}, {errors[1]:+.1%}")
    draw(places, found, links, Path(folder) / "brahmaputra.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
