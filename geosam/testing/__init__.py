"""Scenes with a known answer, and a model without weights: for tests, demonstrations and for trying
out a change.

:func:`synthetic_scene` draws a river landscape with its truth; :func:`object_scene` separate objects
on a field; :func:`sinuous_river_mask` a plain mask whose islands can be counted; :func:`mislabel` spoils
a label as people do; :class:`FakeModel` segments by brightness alone.
"""

from geosam.testing.labels import mislabel
from geosam.testing.objects import nested_objects, object_scene, write_picture
from geosam.testing.scene import SyntheticScene, synthetic_scene, write_scene
from geosam.testing.simple import FakeModel, sinuous_river_mask

__all__ = [
    "FakeModel",
    "SyntheticScene",
    "mislabel",
    "nested_objects",
    "object_scene",
    "sinuous_river_mask",
    "synthetic_scene",
    "write_picture",
    "write_scene",
]
