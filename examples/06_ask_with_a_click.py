"""
Ask with a click
================

One click on a river gives all of it, however many tiles it runs through; a click on something small gives
three masks to choose from, and a second click mends the choice.

Without arguments it draws a landscape and clicks into the middle of its river; with a scene, it clicks where you
say, in degrees, or else on the largest water that geosam finds by itself::

    python examples/06_ask_with_a_click.py
    python examples/06_ask_with_a_click.py ortho.tif --click -74.44 -8.44
"""

# %%
# The scene and the click
# -----------------------

import argparse
import tempfile
from pathlib import Path

import geopandas as gpd
import shapely

import geosam

parser = argparse.ArgumentParser(description="Ask for objects of a scene with clicks.")
parser.add_argument("scene", nargs="?", help="a raster; without it a synthetic one is drawn")
parser.add_argument("--click", nargs=2, type=float, metavar=("LON", "LAT"), help="in degrees")
parser.add_argument("-o", "--output", help="folder for the results; a temporary one without it")
given = parser.parse_args()

folder = Path(given.output or tempfile.mkdtemp(prefix="geosam-"))
folder.mkdir(exist_ok=True)
scene_file = given.scene
if scene_file is None:
    from geosam.testing import write_scene

    scene_file, _ = write_scene(folder, shape=(320, 768), resolution_m=2.0)

scene = geosam.open_scene(scene_file)
if given.click:
    click = gpd.GeoSeries([shapely.Point(given.click)], crs="EPSG:4326")
else:
    water = geosam.outlines(geosam.segment(scene).probability)
    middle = shapely.maximum_inscribed_circle(water.geometry.iloc[0]).coords[0]
    click = gpd.GeoSeries([shapely.Point(middle)], crs=water.crs)

# %%
# One click, one river
# --------------------
# The click's tile is decoded, then its neighbours from where the mask meets the border, until nothing
# grows any more. The table has one row an object.

answers = geosam.ask(scene, click)
(river,) = answers.outlines.itertuples()
print(
    f"One click: {river.area_m2:,.0f} m² in {len(answers.prepared.store.maps)} tiles, "
    f"the model's own estimate of its IoU {river.predicted_iou:.2f}"
)

# %%
# Three masks to choose from
# --------------------------
# With ``several`` the click is answered in its own tile alone, with every mask the model sees in it. One
# is chosen, and a second click, here against the point just inside its edge that is farthest from the first, goes back with the logits of the first answer.

three = geosam.ask(scene, click, several=True)
for mask in three.outlines.itertuples():
    print(f"Mask {mask.mask}: {mask.area_m2:,.0f} m², rated {mask.predicted_iou:.2f}")

clicked = click.to_crs(scene.odc.crs).iloc[0]
inside = three.outlines.geometry.iloc[0].buffer(-2 * abs(scene.odc.geobox.resolution.x))
corners = shapely.points(shapely.get_coordinates(inside))
far = corners[shapely.distance(corners, clicked).argmax()]
refusal = gpd.GeoDataFrame({"label": [0]}, geometry=[far], crs=scene.odc.crs)
mended = geosam.ask(scene, refusal, earlier=three.choose({1: 1}))
print(f"After a click against it: {mended.outlines.area_m2.iloc[0]:,.0f} m²")

# %%
# A file of clicks
# ----------------
# The same clicks as a file, for ``geosam segment --prompts``: it writes all layers.

click.to_file(folder / "clicks.gpkg")
geosam.run(scene_file, folder / "clicked.gpkg", prompts=str(folder / "clicks.gpkg"), overwrite=True)
print(f"Outlines as QGIS opens them are in {folder / 'clicked.gpkg'}")
