"""
Segment a scene
===============

From a raster to river outlines, first in one call, then step by step for those who want to put
something of their own in between.

Without arguments it draws a landscape of its own; with a scene it works on that::

    python examples/01_segment_a_scene.py
    python examples/01_segment_a_scene.py ortho.tif --output results/
"""

# %%
# The scene
# ---------
# Any raster that GDAL opens will do. Here a synthetic one stands in, 512 pixels of 2 m a side.

import argparse
import tempfile
from pathlib import Path

import geosam

parser = argparse.ArgumentParser(description="Segment a scene, in one call and step by step.")
parser.add_argument("scene", nargs="?", help="a raster; without it a synthetic one is drawn")
parser.add_argument("-o", "--output", help="folder for the results; a temporary one without it")
given = parser.parse_args()

folder = Path(given.output or tempfile.mkdtemp(prefix="geosam-"))
folder.mkdir(exist_ok=True)
scene_file = given.scene
if scene_file is None:
    from geosam.testing import write_scene

    scene_file, _ = write_scene(folder, shape=(512, 512), resolution_m=2.0)

# %%
# In one call
# -----------
# This is what the command ``geosam segment`` does. The scene may be larger than the memory: it is
# read, segmented and written block by block. ``report.notes`` say what was chosen and why.

report = geosam.run(
    scene_file,
    folder / "rivers.gpkg",
    probability=folder / "probability.tif",
    quicklook=folder / "rivers.png",
    overwrite=True,
)
for note in report.notes:
    print(note)
print(f"{report.outlines} outlines with {report.islands} islands: {report.water_m2 / 1e4:.1f} ha")

# %%
# Step by step
# ------------
# The same in pieces. ``open_scene`` reads nothing yet; it says which bands there are, by role, and
# where. ``segment`` does not compute anything yet either: it returns a recipe for the probability on
# the scene's own grid, and the work is done when the raster is written.

scene = geosam.open_scene(scene_file)
print("Bands:", ", ".join(scene.band.values), "| rows and columns:", scene.shape[1:])

result = geosam.segment(scene)
geosam.write_raster(result.probability, folder / "steps.tif", kind="probability", overwrite=True)

# %%
# Another threshold needs no model: outlines come from the probability, as often as you like. A
# higher one keeps only what is surely water, a lower one takes in shallows and wet banks. How much
# the area moves says how far to trust it.

for threshold in (0.3, 0.5, 0.7):
    rivers = geosam.outlines(folder / "steps.tif", threshold=threshold)
    print(f"probability above {threshold}: {rivers.area_m2.sum() / 1e4:.2f} ha of water")

# %%
# Outlines are a GeoDataFrame, so everything geopandas can do is at hand. Here only pieces of more
# than a tenth of a hectare are kept and written, islands beside them; QGIS opens both with colours.

large = rivers[rivers.area_m2 > 1000]
geosam.write_geopackage(
    folder / "large.gpkg", outlines=large, islands=geosam.islands(large), overwrite=True
)
print(f"{len(large)} of {len(rivers)} outlines are larger than 0.1 ha")
print("Written to", folder)
