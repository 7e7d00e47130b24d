"""
Compare with a truth
====================

How far to trust an outline: against a river that is known, over thresholds, and by the place of the
mistakes.

Without arguments it draws a landscape whose water is known; with a scene and a truth (polygons or a
mask, on any grid and in any CRS) it works on those::

    python examples/03_compare_with_truth.py
    python examples/03_compare_with_truth.py ortho.tif --truth drawn_by_hand.gpkg
"""

# %%
# The scene and the truth
# -----------------------

import argparse
import tempfile
from pathlib import Path

import geopandas as gpd
import numpy as np

import geosam

parser = argparse.ArgumentParser(description="Compare river outlines with a truth.")
parser.add_argument("scene", nargs="?", help="a raster; without it a synthetic one is drawn")
parser.add_argument("--truth", help="polygons or a mask of the true water; a scene needs it")
parser.add_argument("-o", "--output", help="folder for the results; a temporary one without it")
given = parser.parse_args()
if given.scene and not given.truth:
    parser.error("a scene of your own needs --truth, such as polygons drawn by hand in QGIS")

folder = Path(given.output or tempfile.mkdtemp(prefix="geosam-"))
folder.mkdir(exist_ok=True)
scene_file, truth_file = given.scene, given.truth
if scene_file is None:
    from geosam.testing import write_scene

    scene_file, truth_file = write_scene(folder, shape=(512, 512), resolution_m=2.0)

# %%
# With all bands, and with colours only
# -------------------------------------
# The second run leaves out the near infrared, as if a plain camera had taken the picture.

runs = {"all bands": {}}
bands = [str(band) for band in geosam.open_scene(scene_file).band.values]
if {"red", "green", "blue", "nir"} <= set(bands):
    runs["colours only"] = {"composite": "red,green,blue", "prompts": "learned"}

files = {}
for name, options in runs.items():
    stem = name.replace(" ", "_")
    files[name] = folder / f"{stem}.tif"
    geosam.run(
        scene_file, folder / f"{stem}.gpkg", probability=files[name], overwrite=True, **options
    )

# %%
# Areas and banks
# ---------------
# IoU is the water both have over the water either has. Boundary F1 is about banks only: how much of
# them lies within the tolerance of the true ones. A wide river can have a high IoU with poor banks.

print(f"{'':14}{'IoU':>8}{'precision':>11}{'recall':>8}{'boundary F1':>13}")
for name, file in files.items():
    scores = geosam.evaluate(file, truth_file)
    print(
        f"{name:14}{scores.iou:8.3f}{scores.precision:11.3f}{scores.recall:8.3f}"
        f"{scores.boundary_f1:10.3f} within {scores.tolerance_m:.1f} m"
    )

# %%
# Which threshold?
# ----------------
# Where the best one lies far from one half for many of your scenes, the probabilities are shifted
# for your kind of river, and ``--threshold`` is the cure. One scene alone proves nothing.

file = files["all bands"]
for threshold in (0.2, 0.35, 0.5, 0.65, 0.8):
    scores = geosam.evaluate(file, truth_file, threshold=threshold)
    print(f"probability above {threshold:.2f}: IoU {scores.iou:.3f}")

# %%
# Where the mistakes are
# ----------------------
# The largest patches of water by mistake, and of water that was missed: to be looked at in QGIS.
# Strips along the banks come off when patches are shrunk by two pixels and grown again.


def water(path):
    """Return the water of a file as polygons."""
    vector = Path(path).suffix.lower() in (".gpkg", ".geojson", ".json", ".shp", ".fgb")
    return gpd.read_file(path) if vector else geosam.outlines(path, simplify=0)


found, true = geosam.outlines(file), water(truth_file)
metres = true.estimate_utm_crs()
ours, theirs = (polygons.to_crs(metres).union_all() for polygons in (found, true))
width = geosam.evaluate(file, truth_file).tolerance_m
for name, patches in {
    "by mistake": ours.difference(theirs),
    "missed": theirs.difference(ours),
}.items():
    places = gpd.GeoSeries([patches], crs=metres).buffer(-width).buffer(width).explode()
    places = places.iloc[np.argsort(-places.area)]
    places = places[places.area > 0]
    print(f"Water {name}: {len(places)} patches, {places.area.sum() / 1e4:.2f} ha")
    middles = places.representative_point().to_crs(found.crs)
    for area, middle in list(zip(places.area, middles, strict=True))[:3]:
        print(f"  {area / 1e4:6.2f} ha at {middle.x:.6g}, {middle.y:.7g}")
print("Written to", folder)
