"""What the options name -> models, here and wherever they are sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from geosam.options import Options
from geosam.types import CoarseNetwork, Model


def load(options: Options) -> Model:
    """Load the model that the options name, here and wherever it is sent."""
    from geosam.models.checkpoint import located
    from geosam.models.load import load_model
    from geosam.models.resident import resident

    arguments = {
        "name": located(options.model),
        **_sent(options),
        "tile_size": options.tile_size,
    }
    return resident(load_model, arguments, here=placement(options))


def sized(options: Options, model: Model) -> Options:
    """Return options that say how many tiles go through the model at once."""
    from geosam.models.memory import batch_size_for

    if options.batch_size is not None:
        return options
    return replace(options, batch_size=batch_size_for(model))


def load_network(options: Options, bands: Sequence[str]) -> CoarseNetwork:
    """Load the learned network for three bands, here and wherever it is sent."""
    from geosam.models.coarse import load_learned
    from geosam.models.resident import resident

    # Part of the package: a plan looks at several places with the same one.
    arguments = {"bands": tuple(bands), **_sent(options)}
    return resident(load_learned, arguments, token="shipped", here=placement(options))


def placement(options: Options) -> dict[str, str]:
    """Return device and precision of a network in this process: of several devices the first.

    Raises
    ------
    OptionError
        If one of several devices is not there.
    """
    from geosam.models.device import visible_devices

    visible_devices(options.devices)
    device = f"cuda:{options.devices[0]}" if options.devices else options.device
    return {"device": device, "precision": options.precision}


def _sent(options: Options) -> dict[str, str]:
    # Each worker of several devices sees one of them alone.
    device = "cuda" if options.devices else options.device
    return {"device": device, "precision": options.precision}


def self_prompted(model: Model) -> Model:
    """Give a model the dense prompt network that lies beside its checkpoint."""
    from geosam.models.autosam import auto_prompted
    from geosam.models.resident import Resident, resident

    if isinstance(model, Resident):
        return resident(_load_self_prompted, dict(model.arguments), here=dict(model.here))
    return auto_prompted(model)


def _load_self_prompted(**arguments: Any) -> Model:
    from geosam.models.autosam import auto_prompted
    from geosam.models.load import load_model

    return auto_prompted(load_model(**arguments))
