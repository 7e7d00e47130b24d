"""From satellite scenes and orthomosaics of any size to river outlines."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "run": "geosam.runs",
    "Report": "geosam.report",
    "open_scene": "geosam.raster",
    "segment": "geosam.pipeline",
    "ask": "geosam.asking",
    "Answers": "geosam.asking",
    "outlines": "geosam.vectors",
    "islands": "geosam.vectors",
    "evaluate": "geosam.evaluation",
    "evaluate_set": "geosam.evaluation",
    "info": "geosam.inspection",
    "plan": "geosam.planning",
    "write_coarse": "geosam.commands",
    "write_prompts": "geosam.commands",
    "fill_store": "geosam.commands",
    "vectorize": "geosam.commands",
    "measure_rivers": "geosam.rivers",
    "write_rivers": "geosam.measuring",
    "measure_change": "geosam.change",
    "write_change": "geosam.changing",
    "everything": "geosam.inventory",
    "write_coco": "geosam.coco",
    "read_coco": "geosam.coco",
    "read_coco_masks": "geosam.coco",
    "train": "geosam.training.finetune",
    "load_model": "geosam.models.load",
    "write_raster": "geosam.export.cog",
    "write_geopackage": "geosam.export.geopackage",
    "GeosamError": "geosam.errors",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import geosam`` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'geosam' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
