import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import pdist

from geosam.errors import OptionError
from geosam.prompts.control_points import (
    METHODS,
    background_points,
    bounding_box,
    control_points,
    seed_for,
)
from geosam.types import Window

SIZE = 128


def discs(*circles: tuple[int, int, int], size: int = SIZE) -> np.ndarray:
    rows, cols = np.mgrid[:size, :size]
    return np.any([(rows - r) ** 2 + (cols - c) ** 2 <= a**2 for r, c, a in circles], axis=0)


def blobs(seed: int, size: int = SIZE, scale: float = 6) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(size, size))
    return ndimage.gaussian_filter(noise, scale) > 0.5 / scale / 3


def points_of(mask: np.ndarray, valid: np.ndarray | None = None, **options) -> np.ndarray:
    rng = options.pop("rng", None) or seed_for(0, (0, 0))
    return control_points(mask, np.ones_like(mask) if valid is None else valid, rng=rng, **options)


def at(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (rows, cols), after checking that the points are pixel centres."""
    assert ((points - 0.5) % 1 == 0).all()
    return tuple((points[:, ::-1] - 0.5).astype(int).T)


def test_one_point_a_component_lies_at_its_centre():
    mask = discs((30, 40, 12), (90, 100, 20))
    np.testing.assert_array_equal(points_of(mask, per_component=1), [[100.5, 90.5], [40.5, 30.5]])


def test_a_point_lies_where_the_distance_to_the_bank_is_greatest():
    for seed in range(5):
        mask = blobs(seed)
        points = points_of(mask, per_component=1, max_points=50)
        labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        rows, cols = at(points)
        numbers = labels[rows, cols]
        assert len(set(numbers)) == len(points) == (np.bincount(labels.ravel())[1:] >= 12).sum()
        np.testing.assert_array_equal(
            depth[rows, cols], ndimage.maximum(depth, labels, index=numbers)
        )


def test_equal_depths_give_the_middle_one():
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[60:65, 20:101] = True
    np.testing.assert_array_equal(points_of(mask, per_component=1), [[60.5, 62.5]])


@pytest.mark.parametrize("method", METHODS)
def test_11_px_get_no_point_and_12_px_do(method):
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[5, 5:16] = True
    mask[50:62, 50:62] = np.eye(12, dtype=bool)
    points = points_of(mask, per_component=1, method=method)
    assert len(points) == 1
    assert mask[at(points)].all()
    assert (points > 50).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_narrow_stream_keeps_its_points(method, width):
    rows, cols = np.mgrid[:256, :256]
    mask = np.abs(rows - 128 - np.rint(30 * np.sin(cols / 40))) * 2 < width + 1
    points = points_of(mask, method=method)
    assert len(points) == 3
    assert mask[at(points)].all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    method=st.sampled_from(METHODS),
    per_component=st.integers(1, 4),
    max_points=st.integers(1, 9),
    core=st.sampled_from([None, Window(32, 16, 64, 96)]),
)
def test_points_lie_in_valid_water_of_the_core_and_apart(
    seed, method, per_component, max_points, core
):
    mask, valid = blobs(seed), ~blobs(seed + 1, scale=12)
    points = points_of(
        mask, valid, method=method, per_component=per_component, max_points=max_points, core=core
    )
    wanted = np.ones_like(mask) if core is None else np.zeros_like(mask)
    if core is not None:
        wanted[core.slices()] = True
    rows, cols = at(points)
    assert (mask & valid & wanted)[rows, cols].all()
    labels, _ = ndimage.label(mask & valid, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())
    assert len(points) <= max_points
    assert np.bincount(labels[rows, cols], minlength=1).max(initial=0) <= per_component
    for number in set(labels[rows, cols]):
        assert sizes[number] >= 12
    assert len(np.unique(points, axis=0)) == len(points)


def test_points_of_one_component_are_spread_as_the_formula_says():
    mask = np.zeros((256, 256), dtype=bool)
    mask[100:150, 8:248] = True
    for method in METHODS:
        points = points_of(mask, method=method)
        assert len(points) >= 2
        n_px = (
            mask.sum()
            if method == "distance"
            else ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=8).sum()
        )
        assert pdist(points).min() > 2.75 * np.sqrt(n_px) / 3


def test_erosion_is_as_deep_as_the_training_prompts_of_water_surf():
    mask = np.zeros((256, 256), dtype=bool)
    mask[78:178, 60:190] = True  # 13,000 px: 8 erosions
    inner = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=8)
    seen = np.zeros_like(mask)
    for seed in range(60):
        seen[at(points_of(mask, method="erosion", rng=seed_for(seed, (0, 0))))] = True
    assert (inner | ~seen).all()
    edge = inner & ~ndimage.binary_erosion(inner, iterations=8)
    assert (seen & edge).any(), "the outermost of the eroded pixels are drawn too"


@pytest.mark.parametrize("method", METHODS)
def test_a_tile_twice_as_large_has_its_points_twice_as_far_in(method):
    small = discs((60, 60, 40), size=128)
    large = np.kron(small, np.ones((4, 4), dtype=bool))
    depth_of = {}
    for mask in (small, large):
        depth = ndimage.distance_transform_edt(mask) / len(mask)
        runs = [at(points_of(mask, method=method, rng=seed_for(s, (0, 0)))) for s in range(40)]
        depth_of[len(mask)] = min(depth[run].min() for run in runs)
    assert depth_of[512] == pytest.approx(depth_of[128], abs=0.02)


def test_every_component_gets_its_first_point_before_any_gets_its_second():
    mask = discs((20, 100, 8), (100, 100, 12))
    mask[30:50, 4:90] = True
    points = points_of(mask, per_component=3, max_points=4)
    labels, _ = ndimage.label(mask)
    assert len(set(labels[at(points)][:3])) == 3
    assert labels[at(points)][3] == labels[40, 40]


def test_components_are_judged_on_the_whole_tile_but_points_picked_in_the_core():
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[60:66, :] = True
    core = Window(32, 32, 32, 2)  # 4 rows x 2 columns of the river: too few for a component
    points = points_of(mask, core=core, per_component=1)
    np.testing.assert_array_equal(points, [[32.5, 62.5]])
    assert len(points_of(mask, core=Window(0, 0, 32, SIZE))) == 0


def test_same_seed_same_points_other_tile_other_points():
    mask = blobs(3)
    first = points_of(mask, method="erosion", rng=seed_for(7, (2, -3)))
    again = points_of(mask, method="erosion", rng=seed_for(7, (2, -3)))
    other = points_of(mask, method="erosion", rng=seed_for(7, (2, 3)))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or (first != other).any()


def test_seeds_are_fixed_for_good_and_tell_all_tiles_apart():
    # Written down: a saved run has to give the same prompts on any machine and next year.
    assert seed_for(0, (0, 0)).integers(2**31) == 1826701615
    assert seed_for(42, (-1, 12)).integers(2**31) == 505410014
    draws = {seed_for(1, (r, c)).integers(2**62) for r in range(-9, 9) for c in range(-9, 9)}
    assert len(draws) == 18 * 18
    with pytest.raises(OptionError, match="Seed -1 must be 0 or more"):
        seed_for(-1, (0, 0))


def test_an_empty_mask_has_no_points_and_no_box():
    empty = np.zeros((SIZE, SIZE), dtype=bool)
    assert points_of(empty).shape == (0, 2)
    assert bounding_box(empty) is None
    full = ~empty
    assert points_of(full, valid=empty).shape == (0, 2)
    assert background_points(full, full, 3, margin_px=2, rng=seed_for(0, (0, 0))).shape == (0, 2)


def test_a_tile_full_of_water_has_its_first_point_in_the_middle():
    full = np.ones((SIZE, SIZE), dtype=bool)
    assert abs(points_of(full)[0] - SIZE / 2).max() <= 1


def test_the_box_holds_the_outer_edges_of_the_mask():
    mask = np.zeros((20, 30), dtype=bool)
    mask[4, 7] = mask[9, 21] = True
    np.testing.assert_array_equal(bounding_box(mask), [7, 4, 22, 10])


def test_background_points_keep_their_margin_and_lie_on_confident_valid_land():
    mask, valid, confident = blobs(1), ~blobs(2, scale=12), blobs(4, scale=12)
    distance = ndimage.distance_transform_edt(~mask)
    for seed in range(10):
        points = background_points(
            mask, valid, 5, margin_px=6, confident=confident, rng=seed_for(seed, (1, 1))
        )
        rows, cols = at(points)
        assert len(points) > 0
        assert (distance[rows, cols] >= 6).all()
        assert (valid & confident)[rows, cols].all()


def test_background_points_are_apart_and_as_many_as_asked_for():
    mask = discs((64, 64, 10))
    points = background_points(
        mask,
        np.ones_like(mask),
        4,
        margin_px=10,
        core=Window(0, 0, 64, 128),
        rng=seed_for(0, (0, 0)),
    )
    assert points.shape == (4, 2)
    assert (points[:, 1] < 64).all()
    assert pdist(points).min() > 20


def test_a_dry_tile_has_background_points_everywhere():
    dry = np.zeros((SIZE, SIZE), dtype=bool)
    assert len(background_points(dry, ~dry, 3, margin_px=8, rng=seed_for(0, (0, 0)))) == 3


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"method": "random"}, "'random' must be one of distance, erosion"),
        ({"per_component": 0}, "per_component is 0"),
        ({"max_points": 0}, "max_points is 0"),
    ],
)
def test_wrong_options_are_refused(options, part):
    with pytest.raises(OptionError, match=part):
        points_of(discs((64, 64, 10)), **options)
