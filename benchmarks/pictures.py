"""Pictures of everything mode and of a river from one click, over real scenes in the public domain.

    python benchmarks/pictures.py ../shared/data/scenes [-o docs/pictures]

Everything mode on a part of a NAIP scene (Dakota, 2014), one click on the Ucayali (Landsat, 2020).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import rasterio
import rasterio.plot
import shapely
from rasterio.windows import Window

import geosam

POTHOLES, UCAYALI = "naip_dakota_2014.tif", "ucayali_2020.tif"
PART = Window(400, 150, 340, 260)
"""Of the NAIP scene: lakes, fields and a road."""
CLICK = (-74.438, -8.438)
"""Longitude and latitude, on the river."""
BANDS = "swir1=1,nir=2,red=3,green=4"
"""Of the Landsat scene."""


def write_part(source: Path, target: Path) -> Path:
    """Cut a part out of a scene."""
    with rasterio.open(source) as scene:
        place = {"width": PART.width, "height": PART.height}
        profile = scene.profile | place | {"transform": scene.window_transform(PART)}
        with rasterio.open(target, "w", **profile) as part:
            part.write(scene.read(window=PART))
            part.colorinterp = scene.colorinterp
    return target


def draw(scene: Path, bands: list[int], shapes: gpd.GeoDataFrame, title: str, path: Path) -> None:
    """Draw outlines over three bands of a scene, each stretched from its 2nd to its 98th percentile."""
    with rasterio.open(scene) as file:
        pixels = file.read(bands).astype(float)
        extent = rasterio.plot.plotting_extent(file)
    low, high = np.percentile(pixels, [2, 98], axis=(1, 2))[:, :, None, None]
    shown = np.moveaxis(np.clip((pixels - low) / (high - low), 0, 1), 0, -1)
    figure, axes = plt.subplots(figsize=(7, 7 * shown.shape[0] / shown.shape[1] + 0.4))
    axes.imshow(shown, extent=extent, interpolation="nearest")
    shapes.boundary.plot(ax=axes, color="yellow", linewidth=1.0)
    axes.set(title=title, xlim=extent[:2], ylim=extent[2:])
    axes.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def everything(folder: Path, out: Path) -> None:
    """Draw every segment of the potholes."""
    with tempfile.TemporaryDirectory() as place:
        scene = write_part(folder / POTHOLES, Path(place) / "part.tif")
        found = geosam.everything(scene, Path(place) / "segments.gpkg")
        segments = gpd.read_file(found.output, layer="segments")
        draw(scene, [1, 2, 3], segments, f"{len(segments)} segments", out / "everything.jpg")


def one_click(folder: Path, out: Path) -> None:
    """Draw the river that a click means."""
    scene = folder / UCAYALI
    click = gpd.GeoSeries([shapely.Point(CLICK)], crs="EPSG:4326")
    answers = geosam.ask(scene, click, bands=BANDS)
    river = answers.outlines
    tiles = len(answers.prepared.store.maps)
    km2 = river.area_m2.iloc[0] / 1e6
    parts = shapely.get_num_geometries(river.geometry.iloc[0])
    title = f"One click: {km2:.1f} km² in {parts} parts, {tiles} tiles"
    draw(scene, [1, 2, 3], river, title, out / "one_click.jpg")


def main() -> None:
    """Draw both."""
    parser = argparse.ArgumentParser(description="Pictures over real scenes.")
    parser.add_argument("scenes", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/pictures"))
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    one_click(given.scenes, given.output)
    everything(given.scenes, given.output)


if __name__ == "__main__":
    main()
