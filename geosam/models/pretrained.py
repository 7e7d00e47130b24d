"""One call into transformers, and what is missing after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from geosam.errors import ModelError
from geosam.models.device import Placement


def load_pretrained(
    network_class: Any, name: str, folder: Path, placement: Placement, config: Any = None
) -> torch.nn.Module:
    """Load the weights of a folder into a transformers class, strictly.

    Raises
    ------
    ModelError
        If the weights are incomplete. What transformers itself raises is left to
        :func:`geosam.models.faults.loading`.
    """
    settings = {"config": config} if config is not None else {}
    with silence():
        network, report = network_class.from_pretrained(
            folder,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused below with their names
            dtype=torch.float32,
            **settings,
        )
    _check_complete(name, report)
    return network.eval().requires_grad_(False).to(placement.device)


@contextmanager
def silence() -> Iterator[None]:
    """Keep transformers from showing a bar and a table: what is wrong with weights is raised."""
    bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _check_complete(name: str, report: dict[str, Any]) -> None:
    missing = sorted(report.get("missing_keys", ()))
    mismatched = sorted(str(key[0]) for key in report.get("mismatched_keys", ()))
    if missing or mismatched:
        raise ModelError(
            f"Model {name} is incomplete: {len(missing)} tensors missing, {len(mismatched)} of another "
            f"shape (first: {(missing + mismatched)[0]}). Fetch the whole checkpoint."
        )
