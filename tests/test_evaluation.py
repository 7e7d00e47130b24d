import json
import re
import warnings

import geopandas as gpd
import numpy as np
import odc.geo.xr
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox
from scipy import ndimage

from geosam import scores
from geosam.cli.app import app
from geosam.errors import InputError, OptionError
from geosam.evaluation import boundary_f1, evaluate, evaluate_set, pair_files, pixel_scores
from geosam.vectors import outlines

NORTH_UP = Affine(10, 0, 5e5, 0, -10, 45e5)
SMALL = arrays(bool, (9, 11))


def on_grid(values, transform=NORTH_UP, crs="EPSG:32633"):
    return odc.geo.xr.wrap_xr(values, GeoBox(values.shape, transform, crs))


def river():
    mask = np.zeros((60, 80), bool)
    mask[20:40, :] = True
    return mask


def polygon(rows, cols):
    return shapely.box(
        5e5 + 10 * cols[0], 45e5 - 10 * rows[1], 5e5 + 10 * cols[1], 45e5 - 10 * rows[0]
    )


def polygons(*shapes):
    return gpd.GeoDataFrame(geometry=list(shapes), crs="EPSG:32633")


def brute_boundary_f1(pred, truth, tolerance):
    """Every bank pixel against every other one."""

    def banks(mask):
        around = ndimage.binary_erosion(mask, border_value=1)
        return np.argwhere(mask & ~around)

    a, b = banks(pred), banks(truth)
    if len(a) == 0 or len(b) == 0:
        return float(len(a) == len(b))
    near = np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1)) <= tolerance
    precision, recall = near.any(1).mean(), near.any(0).mean()
    return 2 * precision * recall / (precision + recall) if precision and recall else 0.0


def test_a_perfect_answer_scores_one_everywhere():
    result = evaluate(on_grid(river()), on_grid(river()))
    scores = (result.iou, result.f1, result.precision, result.recall, result.accuracy)
    assert (*scores, result.boundary_f1) == (1,) * 6
    assert result.n_pixels == 4800
    assert result.water_share_pred == result.water_share_truth == pytest.approx(1 / 3)
    assert result.false_water_share == 0
    assert result.tolerance_m == pytest.approx(20, rel=1e-3)


def test_half_the_river_missing_is_an_f1_of_two_thirds():
    half = river()
    half[:, 40:] = False
    result = evaluate(on_grid(half), on_grid(river()))
    assert result.f1 == pytest.approx(2 / 3)
    assert (result.iou, result.precision, result.recall) == (0.5, 1.0, 0.5)
    assert result.accuracy == pytest.approx(1 - 1 / 6)


@given(SMALL, SMALL, SMALL)
def test_pixel_scores_are_those_of_sets(pred, truth, ignore):
    scores = pixel_scores(pred, truth, ignore)
    a, b = (set(np.flatnonzero(mask & ~ignore)) for mask in (pred, truth))
    assert scores.n_pixels == (~ignore).sum()
    if a | b:
        assert scores.iou == len(a & b) / len(a | b)
        assert scores.f1 == 2 * len(a & b) / (len(a) + len(b))
        assert scores.precision == (len(a & b) / len(a) if a else 0)
        assert scores.recall == (len(a & b) / len(b) if b else 0)
    else:
        assert (scores.iou, scores.f1, scores.precision, scores.recall) == (1, 1, 1, 1)


@given(SMALL, SMALL, st.sampled_from([0, 1, 1.5, 2, 5]))
def test_boundary_f1_is_that_of_brute_force(pred, truth, tolerance):
    expected = brute_boundary_f1(pred, truth, tolerance)
    assert boundary_f1(pred, truth, tolerance) == pytest.approx(expected)


@given(SMALL, SMALL)
def test_transposing_both_changes_nothing(pred, truth):
    assert pixel_scores(pred.T, truth.T) == pixel_scores(pred, truth)
    assert boundary_f1(pred.T, truth.T, 1.5) == pytest.approx(boundary_f1(pred, truth, 1.5))


@settings(max_examples=20)
@given(arrays(bool, (40, 7)), arrays(bool, (40, 7)), st.sampled_from([0, 2, 3.7]))
def test_blocks_of_rows_change_nothing(pred, truth, tolerance):
    whole = boundary_f1(pred, truth, tolerance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "_BLOCK_PX", 35)
        assert boundary_f1(pred, truth, tolerance) == whole


def test_a_bank_one_pixel_off_is_found_within_one_pixel_only():
    moved = np.roll(river(), 1, axis=0)
    assert boundary_f1(moved, river(), 1) == 1
    assert boundary_f1(moved, river(), 0.5) == 0
    close = evaluate(on_grid(moved), on_grid(river()), tolerance_m=11)
    assert close.boundary_f1 == 1
    assert close.tolerance_px == pytest.approx(1.1, rel=1e-3)
    assert evaluate(on_grid(moved), on_grid(river()), tolerance_m=9).boundary_f1 == 0


def test_the_edge_of_what_is_ignored_is_no_bank():
    ignore = np.zeros((60, 80), bool)
    ignore[:, 40:] = True
    half = river()
    half[:, 40:] = False
    assert boundary_f1(half, river(), 0, ignore) == 1


def test_no_water_in_either_is_right_and_false_water_is_counted():
    dry = np.zeros((60, 80), bool)
    both = evaluate(on_grid(dry), on_grid(dry))
    assert (both.iou, both.f1, both.boundary_f1, both.accuracy) == (1, 1, 1, 1)
    wet = evaluate(on_grid(river()), on_grid(dry))
    assert (wet.iou, wet.f1, wet.boundary_f1) == (0, 0, 0)
    assert wet.false_water_share == pytest.approx(1 / 3)
    assert evaluate(polygons(), on_grid(dry)).iou == 1


def test_nodata_of_either_is_ignored():
    pred = river().astype(np.uint8)
    pred[:, :10] = 255
    truth = river().astype(np.float32)
    truth[:, -10:] = np.nan
    pred[:, -10:] = 0
    result = evaluate(on_grid(pred), on_grid(truth))
    assert result.n_pixels == 60 * 60
    assert result.iou == 1


def test_vectors_are_burnt_into_the_raster_s_grid_in_either_place():
    shapes = polygons(polygon((20, 40), (0, 40)))
    for result in (
        evaluate(shapes.to_crs(4326), on_grid(river())),
        evaluate(on_grid(river()), shapes),
    ):
        assert result.iou == 0.5
        assert result.n_pixels == 4800


def test_two_vector_layers_agree_with_their_exact_overlay():
    a = polygons(polygon((20, 40), (0, 60)))
    b = polygons(polygon((25, 45), (10, 80)))
    exact = a.union_all().intersection(b.union_all()).area / a.union_all().union(b.union_all()).area
    assert evaluate(a, b).iou == pytest.approx(exact, rel=2e-3)
    assert evaluate(a.to_crs(4326), b.to_crs(4326)).iou == pytest.approx(exact, rel=2e-3)
    assert evaluate(a, a).boundary_f1 == 1


def test_rasters_of_other_grids_and_crs_meet_on_the_truth_s():
    fine = np.kron(river(), np.ones((2, 2), bool))
    finer = on_grid(fine, NORTH_UP @ Affine.scale(0.5))
    assert evaluate(finer, on_grid(river())).iou == 1
    assert evaluate(on_grid(river()), finer).n_pixels == 4 * 4800
    part = on_grid(river()[10:, 5:], NORTH_UP @ Affine.translation(5, 10))
    cut = evaluate(part, on_grid(river()))
    assert (cut.iou, cut.n_pixels) == (1, 50 * 75)
    away = odc.geo.xr.xr_reproject(finer.astype(np.uint8), "EPSG:3857", resampling="nearest")
    assert evaluate(away, on_grid(river())).iou > 0.95


def test_files_of_all_kinds_are_read(tmp_path):
    mask = river().astype(np.uint8)
    mask[:, 40:] = 0
    options = {"driver": "GTiff", "height": 60, "width": 80, "count": 1, "dtype": "uint8"}
    options |= {"crs": "EPSG:32633", "transform": NORTH_UP, "nodata": 255}
    with rasterio.open(tmp_path / "p.tif", "w", **options) as file:
        file.write(np.where(mask, 200, 50).astype(np.uint8), 1)
        file.scales = (1 / 254,)
    shapes = polygons(polygon((20, 40), (0, 80)))
    shapes.to_crs(4326).to_file(tmp_path / "truth.geojson")
    shapes.iloc[:0].to_file(tmp_path / "rivers.gpkg", layer="tiles")
    shapes.to_file(tmp_path / "rivers.gpkg", layer="outlines")
    for truth in ("truth.geojson", "rivers.gpkg"):
        assert evaluate(tmp_path / "p.tif", tmp_path / truth).iou == 0.5
    assert evaluate(tmp_path / "p.tif", shapes, threshold=0.9).iou == 0


@pytest.mark.parametrize("left", [200.0, 179.996, -180.004])
def test_longitudes_beyond_180_are_compared_where_they_lie(left):
    affine = Affine(1e-4, 0, left, 0, -1e-4, 10)
    truth = on_grid(river(), affine, "EPSG:4326")
    drawn = outlines(truth, simplify=0, min_area=0)
    for pred in (drawn, drawn.to_crs(3832)):
        assert evaluate(pred, truth).iou == 1
        assert evaluate(truth, pred).iou == 1
        assert evaluate(pred, drawn).iou > 0.99


def test_the_figures_are_json():
    figures = evaluate(on_grid(river()), on_grid(river())).to_dict()
    assert json.loads(json.dumps(figures)) == figures


def test_places_that_do_not_meet_and_tolerances_below_zero_are_refused(tmp_path):
    there = on_grid(river(), Affine.translation(1e5, 0) @ NORTH_UP)
    far = polygons(shapely.box(7e5, 45e5, 7e5 + 100, 45e5 + 100))
    near = polygons(polygon((20, 40), (0, 40)))
    for pred, truth in ((there, on_grid(river())), (far, on_grid(river())), (far, near)):
        with pytest.raises(InputError, match=r"same place|one place"):
            evaluate(pred, truth)
    with pytest.raises(InputError, match="nothing to compare"):
        evaluate(polygons(), polygons())
    with pytest.raises(InputError, match="no CRS"):
        evaluate(gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)]), on_grid(river()))
    with pytest.raises(InputError, match="cannot be read"):
        evaluate(tmp_path / "none.gpkg", on_grid(river()))
    with pytest.raises(OptionError, match="negative"):
        evaluate(on_grid(river()), on_grid(river()), tolerance_m=-1)


def write_png(path, values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(
            path, "w", driver="PNG", height=60, width=80, count=1, dtype="uint8"
        ) as f:
            f.write(values.astype(np.uint8), 1)


def write_set(folder, **masks):
    folder.mkdir()
    for name, values in masks.items():
        write_png(folder / f"{name}.png", values)
    return folder


def half_river():
    return river() & (np.arange(80) < 40)


def test_pictures_without_georeference_are_compared_pixel_by_pixel(tmp_path):
    write_png(tmp_path / "p.png", half_river() * 255)
    write_png(tmp_path / "t.png", river() * 1)
    result = evaluate(tmp_path / "p.png", tmp_path / "t.png", tolerance_px=3)
    assert result.f1 == pytest.approx(2 / 3)
    assert (result.tolerance_px, result.tolerance_m) == (3, None)
    assert evaluate(half_river(), tmp_path / "t.png").iou == 0.5
    assert evaluate(half_river(), on_grid(river())).iou == 0.5
    with pytest.raises(OptionError, match="no georeference"):
        evaluate(tmp_path / "p.png", tmp_path / "t.png", tolerance_m=3)
    with pytest.raises(InputError, match="Polygons cannot be compared"):
        evaluate(polygons(polygon((20, 40), (0, 40))), tmp_path / "t.png")
    with pytest.raises(InputError, match=r"60 x 70 pixels.*60 x 80"):
        evaluate(river()[:, :70], tmp_path / "t.png")


def test_255_is_unknown_in_a_file_that_holds_a_one(tmp_path):
    label = np.where(river(), 1, 0)
    label[:, 40:] = 255
    write_png(tmp_path / "t.png", label)
    assert evaluate(half_river(), tmp_path / "t.png").n_pixels == 60 * 40
    options = {"driver": "GTiff", "height": 60, "width": 80, "count": 1, "dtype": "uint8"}
    with rasterio.open(
        tmp_path / "t.tif", "w", crs="EPSG:32633", transform=NORTH_UP, **options
    ) as file:
        file.write(label.astype(np.uint8), 1)
    assert evaluate(on_grid(half_river()), tmp_path / "t.tif").n_pixels == 60 * 40


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 0), ("uint16", None), ("int32", 0)])
@pytest.mark.parametrize("crs", ["EPSG:32633", None])
def test_255_is_water_in_a_file_of_0_and_255_of_any_integers(tmp_path, dtype, nodata, crs):
    options = {"driver": "GTiff", "height": 60, "width": 80, "count": 1, "dtype": dtype}
    place = {"crs": crs, "transform": NORTH_UP} if crs else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(tmp_path / "t.tif", "w", nodata=nodata, **place, **options) as file:
            file.write(river().astype(dtype) * np.array(255, dtype), 1)
    found = evaluate(on_grid(river()) if crs else river(), tmp_path / "t.tif")
    assert (found.iou, found.n_pixels) == (1, 4800)


def test_a_set_decides_together_what_255_is(tmp_path):
    dry = np.zeros((60, 80))
    dry[:, 40:] = 255
    truths = write_set(tmp_path / "t", a=river() * 1, b=dry)
    preds = write_set(tmp_path / "p", a=river() * 255, b=np.zeros((60, 80)))
    found = evaluate_set(pair_files(preds, truths).pairs)
    assert (found.n_wet, found.n_dry, found.false_water_mean) == (1, 1, 0)
    assert found.wet["iou"].median == 1
    assert found.pooled.n_pixels == 4800 + 2400


def test_folders_are_matched_by_stem_and_the_rest_is_named(tmp_path):
    truths = write_set(tmp_path / "t", a=river(), b=river(), d=river())
    preds = write_set(tmp_path / "p", a=river(), b=half_river(), c=river())
    (preds / "a.png.aux.xml").write_text("")
    files = pair_files(preds, truths)
    assert list(files.pairs) == ["a", "b"]
    assert (files.only_pred, files.only_truth) == (("c",), ("d",))
    with pytest.raises(InputError, match="no two have the same name"):
        pair_files(write_set(tmp_path / "other", z=river()), truths)
    with pytest.raises(InputError, match="is no folder"):
        pair_files(preds / "a.png", truths)
    (preds / "a.geojson").write_text("")
    with pytest.raises(InputError, match=r"a\.geojson and a\.png"):
        pair_files(preds, truths)


def test_sets_of_outlines_are_compared_on_each_truth_s_grid():
    shapes = polygons(polygon((20, 40), (0, 40)))
    found = evaluate_set({"a": (shapes, on_grid(river())), "b": (on_grid(river()),) * 2})
    assert found.wet["iou"].mean == 0.75
    assert found.pooled.tolerance_m == pytest.approx(20, rel=1e-3)
    with pytest.raises(InputError, match="Image far: "):
        evaluate_set({"far": (shapes.translate(1e6).to_frame("geometry"), on_grid(river()))})


def test_pairs_without_names_are_named_by_the_truth(tmp_path):
    write_png(tmp_path / "lake.png", river())
    found = evaluate_set([(river(), tmp_path / "lake.png"), (river(), river())])
    assert [image.name for image in found.images] == ["lake", "2"]
    with pytest.raises(InputError, match="Two truths are called lake"):
        evaluate_set([(river(), tmp_path / "lake.png")] * 2)


def command(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_the_command_compares_two_folders(tmp_path):
    truths = write_set(tmp_path / "t", a=river(), b=river(), dry=np.zeros((60, 80)))
    preds = write_set(tmp_path / "p", a=river(), b=half_river(), dry=np.zeros((60, 80)), c=river())
    table = command(preds, truths).stdout
    assert re.search(r"^F1 +0\.833 +0\.833 +0\.750 to 0\.917 +0\.857$", table, re.MULTILINE)
    assert "2 with at least 1% of water, 1 with less" in table
    assert "Lowest IoU   b 0.500, a 1.000" in table
    assert "No truth     c: left out" in table
    figures = json.loads(command(preds, truths, "--json", "--tolerance-px", 3).stdout)
    assert figures["wet"]["iou"]["median"] == 0.75
    assert figures["pooled"]["tolerance_px"] == 3
    assert figures["images"]["dry"]["iou"] is None
    assert figures["without_truth"] == ["c"]


def test_a_folder_and_a_file_are_no_pair(tmp_path):
    truths = write_set(tmp_path / "t", a=river())
    done = command(truths / "a.png", truths)
    assert done.exit_code == 2
    assert "is no folder: give two folders, or two files." in done.output
    assert command(truths / "a.png", truths / "a.png").exit_code == 0
