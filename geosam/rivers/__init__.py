"""River products: outlines -> centrelines, widths, banks, reaches, and what kind of water each is.

outlines -> water in a plane -> sites along the banks -> triangles between them -> axis -> spurs
pruned -> network -> main line -> transects -> layers.
"""

from geosam.rivers.products import measure_rivers, no_rivers
from geosam.rivers.water import has_banks

__all__ = ["has_banks", "measure_rivers", "no_rivers"]
