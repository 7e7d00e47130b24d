"""Smooth random fields and smooth enlargement: what textures and banks are made of."""

from __future__ import annotations

import numpy as np
from scipy import sparse


def smooth_noise(
    shape: tuple[int, int], scale_px: float, rng: np.random.Generator, octaves: int = 1
) -> np.ndarray:
    """Draw a random field that varies over about `scale_px` pixels.

    Parameters
    ----------
    shape
        (height, width).
    scale_px
        Size of its blobs in pixels. Each further octave has half the size and half the amplitude.
    rng
        Source of chance.
    octaves
        Number of sizes that are added up.

    Returns
    -------
    (height, width) float32
        Mean 0 and standard deviation 1, roughly normal.
    """
    field = np.zeros(shape, dtype="float32")
    for octave in range(octaves):
        step = max(scale_px / 2**octave, 1.0)
        nodes = tuple(_n_nodes(n, step) for n in shape)
        grid = rng.standard_normal(nodes, dtype="float32")
        field += enlarge(grid, shape, step) / 2**octave
    return (field - field.mean()) / max(float(field.std()), 1e-6)


def grid_nodes(shape: tuple[int, int], step: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (rows, cols) of a coarse grid that reaches one node beyond the scene on every side."""
    rows, cols = (step * (np.arange(_n_nodes(n, step)) - 1) for n in shape)
    return rows, cols


def enlarge(grid: np.ndarray, shape: tuple[int, int], step: float) -> np.ndarray:
    """Interpolate values at the nodes of :func:`grid_nodes` at every pixel, by cubic splines.

    Returns
    -------
    (height, width) float32
    """
    along = _weights(shape[1], step) @ grid.astype("float32").T
    return _weights(shape[0], step) @ along.T


def _n_nodes(n: int, step: float) -> int:
    return int(np.ceil(n / step)) + 4


def _weights(n: int, step: float) -> sparse.csr_array:
    """Return the (n, nodes) weights of Catmull-Rom splines: each pixel sees four nodes."""
    position = np.arange(n) / step
    first = position.astype(int)
    t = position - first
    weights = 0.5 * np.stack(
        [
            -t + 2 * t**2 - t**3,
            2 - 5 * t**2 + 3 * t**3,
            t + 4 * t**2 - 3 * t**3,
            -(t**2) + t**3,
        ]
    )
    nodes = first + np.arange(4)[:, None]
    pixels = np.broadcast_to(np.arange(n), nodes.shape)
    matrix = (weights.ravel().astype("float32"), (pixels.ravel(), nodes.ravel()))
    return sparse.csr_array(matrix, shape=(n, _n_nodes(n, step)))
