"""
Prompts of your own
===================

geosam finds out by itself where water may be and points the model at it. This script takes those
prompts, keeps one river, tells the model that all else is something else, and runs again: what you
would do in QGIS by hand.

Without arguments it draws a landscape of its own; with a scene, and perhaps prompts that you have
drawn, it works on those::

    python examples/02_your_own_prompts.py
    python examples/02_your_own_prompts.py ortho.tif
    python examples/02_your_own_prompts.py ortho.tif --prompts my_points.gpkg
"""

# %%
# The scene, and a first run
# --------------------------

import argparse
import tempfile
from pathlib import Path

import geopandas as gpd

import geosam
from geosam.commands import write_prompts

parser = argparse.ArgumentParser(description="Run geosam with prompts of your own.")
parser.add_argument("scene", nargs="?", help="a raster; without it a synthetic one is drawn")
parser.add_argument("--prompts", help="your points, boxes and polygons, in any CRS")
parser.add_argument("-o", "--output", help="folder for the results; a temporary one without it")
given = parser.parse_args()

folder = Path(given.output or tempfile.mkdtemp(prefix="geosam-"))
folder.mkdir(exist_ok=True)
scene_file = given.scene
if scene_file is None:
    from geosam.testing import write_scene

    scene_file, _ = write_scene(folder, shape=(512, 512), resolution_m=2.0)

geosam.run(scene_file, folder / "everything.gpkg", overwrite=True)
everything = gpd.read_file(folder / "everything.gpkg", layer="outlines")
print(f"By itself geosam finds {len(everything)} outlines")

# %%
# The prompts it used
# -------------------
# ``geosam prompts`` writes them without running the model. ``label`` is 1 where the point asks for
# what lies there, and 0 where it says that something else is there. The polygons of the layer
# ``prompt_masks`` are the coarse mask, which the model is given too.

prompts_file = folder / "prompts.gpkg"
write_prompts(scene_file, prompts_file, overwrite=True)
points = gpd.read_file(prompts_file, layer="prompts")
masks = gpd.read_file(prompts_file, layer="prompt_masks")
on_water = int((points.label == 1).sum())
print(f"It asked with {on_water} points on water and {len(points) - on_water} on land")

# %%
# Keep one river
# --------------
# The largest outline is the first. Points anywhere else turn into "not this", and the polygons
# elsewhere go. Any table with points will do, in any CRS: to show it, this one is saved in degrees.

river = everything[:1]
on_river = points.intersects(river.union_all())
points.loc[~on_river, "label"] = 0
masks = masks[masks.intersects(river.union_all())]

own_file = folder / "own_prompts.gpkg"
points.to_crs("EPSG:4326").to_file(own_file, layer="prompts")
masks.to_crs("EPSG:4326").to_file(own_file, layer="prompt_masks")

# %%
# Run with them
# -------------
# A point of your own is followed beyond its tile until the water ends; one that geosam wrote (column
# ``source``) counts in the tiles that see it, a polygon in all that it touches.

geosam.run(scene_file, folder / "own.gpkg", prompts=given.prompts or str(own_file), overwrite=True)
own = gpd.read_file(folder / "own.gpkg", layer="outlines")
for name, outlines in (("by itself", everything), ("with these prompts", own)):
    print(f"{name:20} {len(outlines):4} outlines, {outlines.area_m2.sum() / 1e4:8.2f} ha")
print("Written to", folder)
