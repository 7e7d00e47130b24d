"""What moved between dates: erosion and accretion, migration of the main line, cut-offs.

outlines of each date -> one plane -> areas that changed, lines that moved, bends that were cut.
"""

from geosam.change.series import Moment, measure_change

__all__ = ["Moment", "measure_change"]
