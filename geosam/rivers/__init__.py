"""River products: outlines -> centrelines, widths, banks, reaches, and what kind of water each is.

outlines -> water in a plane -> sites along the banks -> triangles between them -> axis -> spurs
pruned -> network -> main line -> transects -> layers.
"""

from geosam.rivers.products import measure_rivers

__all__ = ["measure_rivers"]
