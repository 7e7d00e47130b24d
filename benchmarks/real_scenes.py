"""The table of real scenes: default flags, one code path, nothing tuned to a scene.

    python benchmarks/real_scenes.py --data ../shared/data -o real/

For each scene: water share, IoU with NDWI > 0 where there is a near infrared, IoU of the final mask
with its own coarse mask (returning the coarse mask is no segmentation), and, for two scenes, IoU with
NDWI > 0 when the coarse mask is spoilt: eroded or dilated by 3 px, a tenth of its components dropped.
The Yellow Breeches Creek is compared with an outline drawn by hand. Pictures stand beside the tables.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from rasterio.features import rasterize
from scipy import ndimage

import geosam

CREEK = Path(__file__).parent / "truth" / "yellow_breeches_creek.geojson"
UCAYALI = "swir1=1,nir=2,red=3,green=4"


@dataclass(frozen=True)
class Case:
    """One scene and what to name in it."""

    name: str
    bands: str | None = None
    green_nir: tuple[int, int] | None = None
    spoil: bool = False


CASES = (
    Case("ucayali_2020", UCAYALI, (4, 2), spoil=True),
    Case("irrawaddy_s2", "vv=1,vh=2,blue=3,green=4,red=5,nir=9", (4, 9), spoil=True),
    Case("haiti_rgbn", "red=1,green=2,blue=3,nir=4", (2, 4)),
    *(
        Case(f"ucayali_{year}", UCAYALI, (4, 2))
        for year in (1985, 1990, 1995, 2000, 2005, 2010, 2015)
    ),
    *(
        Case(f"naip_dakota_{year}", "red=1,green=2,blue=3,nir=4", (2, 4))
        for year in (2009, 2014, 2019)
    ),
    Case("yukon_delta_s2", None, (2, 4)),
    Case("olinda_l7", "blue=1,green=2,red=3,nir=4,swir1=5,swir2=6", (2, 4)),
    Case("yellow_breeches_ortho"),
)


def iou(a: np.ndarray, b: np.ndarray, valid: np.ndarray) -> float:
    """Intersection over union where valid."""
    union = ((a | b) & valid).sum()
    return float((a & b & valid).sum() / union) if union else 1.0


def ndwi_mask(path: Path, bands: tuple[int, int]) -> np.ndarray:
    with rasterio.open(path) as source:
        green, nir = (source.read(b).astype(float) for b in bands)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (green - nir) / (green + nir) > 0


def spoil(mask: np.ndarray, how: str) -> np.ndarray:
    """Erode or dilate by 3 px and drop every tenth component, the largest excepted."""
    labels, n = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    order = np.argsort(-sizes) + 1
    mask = mask & ~np.isin(labels, order[5::10])
    ball = np.ones((3, 3), bool)
    operation = ndimage.binary_erosion if how == "eroded" else ndimage.binary_dilation
    return operation(mask, ball, iterations=3)


def read_mask(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read(1)


def run_case(case: Case, data: Path, out: Path) -> dict[str, str]:
    scene = data / "scenes" / f"{case.name}.tif"
    stem = out / case.name
    started = time.perf_counter()
    report = geosam.run(
        scene,
        f"{stem}.gpkg",
        bands=case.bands,
        mask=f"{stem}_mask.tif",
        quicklook=f"{stem}.png",
        overwrite=True,
    )
    seconds = time.perf_counter() - started
    mask = read_mask(Path(f"{stem}_mask.tif"))
    row = {
        "scene": case.name,
        "outlines": str(report.outlines),
        "water %": f"{100 * report.water_share:.2f}",
        "seconds": f"{seconds:.1f}",
    }
    row["prompts"] = (
        next(n for n in report.notes if n.startswith("Prompts")).split(":")[1].split(",")[0].strip()
    )
    row["with coarse"] = f"{coarse_iou(case, scene, stem, mask):.3f}"
    if case.green_nir:
        truth = ndwi_mask(scene, case.green_nir)
        row["NDWI>0 %"] = f"{100 * truth[mask != 255].mean():.1f}"
        row["with NDWI>0"] = f"{iou(mask == 1, truth, mask != 255):.3f}"
        if case.spoil:
            row |= spoilt_rows(case, scene, stem, truth)
    if case.name.startswith("yellow"):
        row["with hand outline"] = f"{creek_iou(scene, mask):.3f}"
    return row


def coarse_iou(case: Case, scene: Path, stem: Path, mask: np.ndarray) -> float:
    from geosam.commands import write_coarse

    path = Path(f"{stem}_coarse.tif")
    write_coarse(scene, path, bands=case.bands, overwrite=True)
    with rasterio.open(path) as source, rasterio.open(scene) as grid:
        from rasterio.warp import Resampling, reproject

        coarse = np.zeros(grid.shape, np.uint8)
        reproject(
            source.read(1),
            coarse,
            src_transform=source.transform,
            src_crs=source.crs,
            dst_transform=grid.transform,
            dst_crs=grid.crs,
            resampling=Resampling.nearest,
        )
    return iou(mask == 1, coarse == 1, mask != 255)


def spoilt_rows(case: Case, scene: Path, stem: Path, truth: np.ndarray) -> dict[str, str]:
    rows = {}
    for how in ("eroded", "dilated"):
        prompt = spoil(truth, how)
        path = Path(f"{stem}_{how}.tif")
        with rasterio.open(scene) as grid:
            profile = {
                "driver": "GTiff",
                "dtype": "uint8",
                "count": 1,
                "crs": grid.crs,
                "transform": grid.transform,
                "height": grid.height,
                "width": grid.width,
            }
            with rasterio.open(path, "w", **profile) as target:
                target.write(prompt.astype(np.uint8), 1)
        out = Path(f"{stem}_from_{how}.gpkg")
        geosam.run(
            scene,
            out,
            bands=case.bands,
            prompts=str(path),
            mask=out.with_suffix(".tif"),
            overwrite=True,
        )
        mask = read_mask(out.with_suffix(".tif"))
        rows[how] = (
            f"{iou(prompt, truth, mask != 255):.3f} -> {iou(mask == 1, truth, mask != 255):.3f}"
        )
    return rows


def creek_iou(scene: Path, mask: np.ndarray) -> float:
    with rasterio.open(scene) as source:
        creek = gpd.read_file(CREEK).to_crs(source.crs)
        truth = rasterize(creek.geometry, source.shape, transform=source.transform, dtype="uint8")
    return iou(mask == 1, truth == 1, mask != 255)


COLUMNS = (
    "scene",
    "prompts",
    "water %",
    "NDWI>0 %",
    "with NDWI>0",
    "with coarse",
    "eroded",
    "dilated",
    "with hand outline",
    "outlines",
    "seconds",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("scenes", nargs="*", help="names of scenes; all without")
    arguments = parser.parse_args()
    arguments.out.mkdir(exist_ok=True)
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for case in CASES:
        if not arguments.scenes or case.name in arguments.scenes:
            row = run_case(case, arguments.data, arguments.out)
            print("| " + " | ".join(row.get(column, "") for column in COLUMNS) + " |", flush=True)


if __name__ == "__main__":
    main()
