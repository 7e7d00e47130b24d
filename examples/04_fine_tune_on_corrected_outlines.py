"""
Fine-tune on corrected outlines
===============================

Segment a scene, correct a part of the outlines, train on that part, and let the tuned model do the
rest: for a river that the shipped model does not know well.

Without arguments it draws a landscape whose water is known; with a scene, and perhaps its outlines
as you corrected them, it works on those::

    python examples/04_fine_tune_on_corrected_outlines.py
    python examples/04_fine_tune_on_corrected_outlines.py ortho.tif
    python examples/04_fine_tune_on_corrected_outlines.py ortho.tif --corrected corrected.gpkg
"""

# %%
# Segment
# -------

import argparse
import shutil
import tempfile
from pathlib import Path

import geopandas as gpd
import shapely

import geosam

parser = argparse.ArgumentParser(description="Fine-tune on corrected outlines, and segment again.")
parser.add_argument("scene", nargs="?", help="a raster; without it a synthetic one is drawn")
parser.add_argument("--corrected", help="outlines of the scene as you corrected them")
parser.add_argument("-o", "--output", help="folder for the results; a temporary one without it")
given = parser.parse_args()

folder = Path(given.output or tempfile.mkdtemp(prefix="geosam-"))
folder.mkdir(exist_ok=True)
scene_file, truth_file = given.scene, None
if scene_file is None:
    from geosam.testing import write_scene

    scene_file, truth_file = write_scene(folder, shape=(768, 768), seed=3, nir=False)

before_file, after_file = folder / "before.gpkg", folder / "after.gpkg"
geosam.run(scene_file, before_file, overwrite=True)
before = gpd.read_file(before_file, layer="outlines")
print(f"As shipped: {len(before)} outlines, {before.area_m2.sum() / 1e4:.2f} ha")

# %%
# Correct the western part
# ------------------------
# In QGIS you would move, cut and delete polygons of the layer ``outlines`` and save. Here the known
# water stands in for you; of a scene of your own without ``--corrected`` only those outlines are
# kept that need no review. Nothing is said about the east: the east is the test.

corrected_file = folder / "corrected.gpkg"
shutil.copy(before_file, corrected_file)
if truth_file is not None:
    right = geosam.outlines(truth_file, simplify=0)
elif given.corrected:
    right = gpd.read_file(given.corrected, layer="outlines").to_crs(before.crs)
else:
    right = before[~before.needs_review]
right[["geometry"]].to_file(corrected_file, layer="outlines")

grid = geosam.open_scene(scene_file).odc.geobox
west, south, east, north = grid.extent.boundingbox.bbox
border = west + 0.6 * (east - west)
parts = {
    "west": shapely.box(west, south, border, north),
    "east": shapely.box(border, south, east, north),
}
areas = {name: folder / f"{name}.gpkg" for name in parts}
for name, part in parts.items():
    gpd.GeoDataFrame(geometry=[part], crs=before.crs).to_file(areas[name])

# %%
# Train
# -----
# The GeoPackage knows its scene. ``labelled`` says where its outlines were looked at: outside of it
# nothing is known, and no tile is cut there. Some tiles are set aside to choose the best epoch by,
# and those that touch them are left out. The tiles are small so that a small scene has enough of
# them; of scenes of some thousand pixels leave ``tile_size`` out.

trained = geosam.train(
    corrected_file,
    folder / "tuned",
    labelled=str(areas["west"]),
    tile_size=64 if min(grid.shape) < 768 else 128,
    validation=0.25,
    test=0.0,
    epochs=8,
    batch_size=2,
    lr=3e-4,
    overwrite=True,
)
print(
    f"Trained on {trained.tiles['train']} tiles: the loss of the {trained.tiles['validation']} set "
    f"aside went from {trained.before['loss']:.3f} to {trained.after['loss']:.3f}"
)

# %%
# Segment again
# -------------
# ``--model`` takes the folder as it takes any model. Epoch 0 counts too: had no epoch been better
# than the shipped model, ``best`` would be the shipped model.

geosam.run(scene_file, after_file, model=trained.model, overwrite=True)
after = gpd.read_file(after_file, layer="outlines")
print(f"Tuned: {len(after)} outlines, {after.area_m2.sum() / 1e4:.2f} ha")

# %%
# Did it help?
# ------------
# Only the east can tell. One half of one small scene proves little; train and test on scenes of
# different days when you can.

if truth_file is not None:
    known = right.clip(parts["east"]).union_all()
    for name, outlines in (("as shipped", before), ("tuned", after)):
        found = outlines.clip(parts["east"]).union_all()
        iou = found.intersection(known).area / found.union(known).area
        print(f"{name:10} IoU {iou:.3f} in the east")
print("Written to", folder)
