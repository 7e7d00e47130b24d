"""
Everything in a scene
=====================

Find every object of a scene without saying what to look for, each once and whole across tiles, and
pass the result on to annotation tools.

Without arguments it draws a field with objects whose masks are known; with a scene it works on that::

    python examples/05_everything_in_a_scene.py
    python examples/05_everything_in_a_scene.py ortho.tif
"""

# %%
# The scene
# ---------

import argparse
import tempfile
from pathlib import Path

import geopandas as gpd

import geosam

parser = argparse.ArgumentParser(description="Find every object of a scene.")
parser.add_argument("scene", nargs="?", help="a raster; without it a synthetic one is drawn")
parser.add_argument("-o", "--output", help="folder for the results; a temporary one without it")
given = parser.parse_args()

folder = Path(given.output or tempfile.mkdtemp(prefix="geosam-"))
folder.mkdir(exist_ok=True)
scene_file, truth = given.scene, []
if scene_file is None:
    from geosam.testing import object_scene, write_picture

    pixels, truth = object_scene((288, 288), 10, seed=2)
    scene_file = write_picture(folder / "scene.tif", pixels)

# %%
# Find
# ----
# Nothing is asked for. The names of the options are those of SAM's mask generator; ``river-tiny`` has
# recorded that it is best asked about the shapes that colour tells apart, and a SAM checkpoint
# would be asked on a grid of clicks.

found = geosam.everything(
    scene_file,
    folder / "segments.gpkg",
    labels=folder / "labels.tif",
    coco=folder / "annotations.json",
    quicklook=folder / "segments.png",
    tile_size=128,
    overwrite=True,
)
segments = gpd.read_file(folder / "segments.gpkg", layer="segments")
print(f"{found.segments} segments in {sum(found.tiles.values())} tiles")
print(
    segments[["segment_id", "area_m2", "predicted_iou", "stability"]]
    .head(10)
    .to_string(index=False)
)

# %%
# Are they right?
# ---------------
# Masks of a COCO file come back in their boxes, so that a thousand of them are a few megabytes.

if truth:
    from geosam.cutouts import mask_ious

    masks = [mask for _, mask in geosam.read_coco_masks(folder / "annotations.json")]
    best = mask_ious(masks, truth).max(axis=0)
    print(f"{(best >= 0.75).sum()} of {len(truth)} objects at an IoU of 0.75 and more")

# %%
# Correct and bring back
# ----------------------
# Correct ``annotations.json`` in a tool that reads COCO; its polygons or run lengths come back to
# where they belong.

corrected = geosam.read_coco(folder / "annotations.json")
geosam.write_geopackage(folder / "corrected.gpkg", annotations=corrected, overwrite=True)
print(f"{len(corrected)} annotations in {corrected.crs.name}")
print("Written to", folder)
