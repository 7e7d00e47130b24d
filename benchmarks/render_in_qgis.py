"""A GeoPackage of geosam as QGIS draws it, with the styles that lie in it.

    QT_QPA_PLATFORM=offscreen python3 benchmarks/render_in_qgis.py FILE.gpkg OUT.png [WEST,SOUTH,EAST,NORTH]

needs QGIS with its Python (Debian's ``qgis`` and ``python3-qgis``), and none of geosam. Layers lie upon
each other as QGIS puts them when a whole file is dropped on its window: points over lines over polygons.
Says which layers have no style in the file.
"""

import os
import sys

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProviderRegistry,
    QgsRectangle,
    QgsVectorLayer,
    QgsWkbTypes,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

WIDTH, HEIGHT = 1400, 1000


def layers_of(path):
    """Every layer with geometry, those to be drawn on top first."""
    parts = QgsProviderRegistry.instance().querySublayers(path)
    names = [part.name() for part in parts if part.name() != "layer_styles"]
    found = [QgsVectorLayer(f"{path}|layername={name}", name, "ogr") for name in names]
    drawn = [layer for layer in found if layer.geometryType() <= QgsWkbTypes.PolygonGeometry]
    return sorted(drawn, key=lambda layer: layer.geometryType())


def style(layer):
    """Load the style that the file holds for a layer, and say where it holds none."""
    _, loaded = layer.loadDefaultStyle()
    if not loaded:
        print(f"{layer.name()} has no style of its own", file=sys.stderr)


def render(layers, box, picture):
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setBackgroundColor(QColor("white"))
    settings.setOutputSize(QSize(WIDTH, HEIGHT))
    settings.setDestinationCrs(layers[0].crs())
    settings.setExtent(box)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    for error in job.errors():
        sys.exit(f"{error.layerID}: {error.message}")
    job.renderedImage().save(picture)


def extent_of(layers):
    box = QgsRectangle()
    box.setMinimal()
    for layer in layers:
        if layer.featureCount():
            box.combineExtentWith(layer.extent())
    box.scale(1.05)
    return box


def main(path, picture, box=None):
    app = QgsApplication([], False)
    app.initQgis()
    layers = layers_of(path)
    for layer in layers:
        style(layer)
    corners = extent_of(layers) if box is None else QgsRectangle(*map(float, box.split(",")))
    render(layers, corners, picture)
    print(", ".join(f"{layer.name()} ({layer.featureCount()})" for layer in layers))
    app.exitQgis()


if __name__ == "__main__":
    main(*sys.argv[1:])
