"""Rivers whose widths, lengths and topology are known, measured."""

import geopandas as gpd
import numpy as np
import odc.geo.xr
import pyproj
import pytest
import rasterio.features
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from geosam.errors import InputError, OptionError
from geosam.rivers import measure_rivers
from geosam.rivers.scene_edge import footprint
from geosam.testing import sinuous_river_mask
from geosam.vectors import outlines

PX = 10.0
UTM = "EPSG:32633"
SCALE = 0.9996
"""Length in the grid over length on the ground, on the central meridian of the zone."""


def in_scene(mask, crs=UTM, affine=None):
    affine = affine or Affine(PX, 0, 5e5, 0, -PX, 5e6)
    return odc.geo.xr.wrap_xr(mask, GeoBox(mask.shape, affine, crs))


def measured(mask, **options):
    raster = in_scene(mask) if isinstance(mask, np.ndarray) else mask
    edge = footprint(raster)
    return measure_rivers(outlines(raster, min_area=0), edge=edge, pixel_m=PX, **options)


def scale(found):
    """Metres on the ground in a metre of the grid."""
    lines = found["centerlines"]
    return lines.length_m.sum() / lines.length.sum()


def straight(width_px, angle_deg, side=160):
    """A channel through the middle of a scene."""
    return np.abs(signed_distance(angle_deg, side)) < width_px / 2


def signed_distance(angle_deg, side=160):
    """Distance of every pixel's centre from a line through the middle of a scene, in pixels."""
    rows, cols = np.mgrid[:side, :side] + 0.5
    turn = np.radians(angle_deg)
    return (cols - side / 2 - 0.13) * np.sin(turn) - (rows - side / 2 - 0.09) * np.cos(turn)


def offsets_px(lines, angle_deg, side=160):
    x, y = shapely.get_coordinates(lines.geometry.to_numpy()).T
    cols, rows = (x - 5e5) / PX, (5e6 - y) / PX
    turn = np.radians(angle_deg)
    offset = (cols - side / 2 - 0.13) * np.sin(turn) - (rows - side / 2 - 0.09) * np.cos(turn)
    return np.abs(offset)


@pytest.mark.parametrize("angle_deg", [0, 15, 30])
@pytest.mark.parametrize("width_px", range(3, 13))
def test_a_straight_channel_has_its_width_and_its_middle(width_px, angle_deg):
    found = measured(straight(width_px, angle_deg))
    widths = found["transects"].width_m / PX / scale(found)
    assert widths.mean() == pytest.approx(width_px, abs=0.1)
    assert offsets_px(found["centerlines"], angle_deg).max() < 0.5
    assert len(found["centerlines"]) == 1
    assert set(found["nodes"].kind) == {"edge"}
    assert set(found["transects"].flag) == {""}


@pytest.mark.parametrize("width_px", range(3, 13))
def test_at_45_degrees_a_channel_has_the_width_of_its_mask(width_px):
    # A mask can only hold whole diagonals there, 0.707 px each: its area over its length is the truth.
    mask = straight(width_px, 45)
    found = measured(mask)
    diagonals = len(np.unique(np.subtract(*np.nonzero(mask))))
    widths = found["transects"].width_m / PX / scale(found)
    assert widths.mean() == pytest.approx(diagonals * np.sqrt(0.5), abs=0.1)
    assert offsets_px(found["centerlines"], 45).max() < 0.5


def test_a_river_leaves_the_scene_also_where_a_bank_flares():
    rows, cols = np.mgrid[:120, :160] + 0.5
    river = np.abs(cols - 80) < 10
    # Its right bank runs off at a shallow angle to the scene's edge.
    flare = (cols > 80) & (cols < 110 - 1.9 * rows)
    found = measured(river | flare)
    assert found["nodes"].kind.tolist() == ["edge", "edge"]
    y = shapely.get_coordinates(found["centerlines"].geometry.to_numpy())[:, 1]
    assert (5e6 - y.max()) / PX < 0.5
    # A bend whose outer bank touches the edge does not leave there.
    bend = np.abs(np.hypot(rows - 55, cols - 80) - 50) < 8
    kinds = measured(bend & (rows < 60))["nodes"].kind
    assert set(kinds) == {"end"}


def meander(amplitude_deg, width_px, waves=3, step=0.5):
    """A sine-generated curve (Langbein and Leopold 1966) as a line and its length, in pixels."""
    wavelength = 14 * width_px
    along = np.arange(0, waves * wavelength, step)
    turn = np.radians(amplitude_deg) * np.sin(2 * np.pi * along / wavelength)
    line = np.cumsum(step * np.stack([np.cos(turn), np.sin(turn)], axis=1), axis=0)
    return line, along[-1]


def drawn(line_px, width_px, margin=20):
    line_px = line_px - line_px.min(axis=0) + margin
    river = shapely.LineString(line_px).buffer(width_px / 2, cap_style="flat", quad_segs=64)
    shape = (np.ceil(line_px.max(axis=0)[::-1]) + margin).astype(int)
    return rasterio.features.rasterize([river], out_shape=tuple(shape)).astype(bool)


@pytest.mark.parametrize(("amplitude_deg", "width_px"), [(60, 12), (90, 12), (60, 5), (100, 20)])
def test_a_meander_has_its_width_and_its_length(amplitude_deg, width_px):
    line, length = meander(amplitude_deg, width_px)
    found = measured(drawn(line, width_px))
    true = scale(found) * PX
    assert found["transects"].width_m.mean() / true == pytest.approx(width_px, rel=0.02)
    assert found["centerlines"].length_m.sum() / true == pytest.approx(length, rel=0.01)
    sinuosity = length / np.hypot(*(line[-1] - line[0]))
    assert found["reaches"].sinuosity.item() == pytest.approx(sinuosity, rel=0.02)


def test_islands_count_in_the_span_and_not_in_the_width():
    mask = sinuous_river_mask((200, 400), n_islands=3)
    found = measured(mask)
    lines, transects = found["centerlines"], found["transects"]
    assert len(lines) - len(found["nodes"]) + 1 == 3
    main = transects[transects.reach_id.isin(lines.reach_id[lines.main])]
    with_island = main[main.n_channels == 2]
    true = PX * scale(found)
    # The river is a tenth of the height wide.
    assert with_island.span_m.mean() == pytest.approx(20 * true, rel=0.03)
    assert main[main.n_channels == 1].width_m.median() == pytest.approx(20 * true, rel=0.02)
    land = mask_on_lines(~mask, with_island)
    assert (with_island.span_m - with_island.width_m).mean() / true == pytest.approx(land, rel=0.05)
    assert (with_island.width_m > with_island.channel_m).all()
    arms = found["reaches"][~found["reaches"].reach_id.isin(lines.reach_id[lines.main])]
    assert (arms.braiding_index == 1).all()


def mask_on_lines(mask, lines, step=0.02):
    """Mean length of mask under lines, in pixels, by looking at very many points."""
    sums = []
    for line in lines.geometry:
        points = shapely.line_interpolate_point(line, np.arange(0, line.length, step * PX))
        x, y = shapely.get_coordinates(points).T
        sums.append(mask[((5e6 - y) / PX).astype(int), ((x - 5e5) / PX).astype(int)].sum() * step)
    return np.mean(sums)


def test_the_channel_of_a_main_line_is_measured_straight_across_it():
    rows, cols = np.mgrid[:300, :500] + 0.5
    # Two arms a third oblique to the river as a whole.
    apart = 90 * (1 - np.abs(cols - 250) / 150).clip(0)
    slant = np.hypot(1, 90 / 150)
    mask = np.minimum(np.abs(rows - 150 - apart), np.abs(rows - 150 + apart)) < 6 * slant
    found = measured(mask & (np.abs(cols - 250) < 180))
    main = found["transects"][found["transects"].n_channels == 2]
    in_an_arm = main[(main.centroid.x - 5e5 - 2500).abs() / PX < 60]
    assert len(in_an_arm) > 5
    assert in_an_arm.channel_m.median() / PX / scale(found) == pytest.approx(12, rel=0.03)
    assert in_an_arm.width_m.median() > 2.1 * in_an_arm.channel_m.median()


def test_a_transect_that_runs_up_a_tributary_is_flagged():
    rows, cols = np.mgrid[:200, :300] + 0.5
    river, tributary = np.abs(rows - 120) < 6, (np.abs(cols - 150) < 5) & (rows < 120)
    found = measured(river | tributary)
    lines, transects = found["centerlines"], found["transects"]
    main = transects[transects.reach_id.isin(lines.reach_id[lines.main])]
    widths = main.width_m / PX / scale(found)
    # The tributary goes up to the scene's edge, the main line is the longer way.
    up = widths > 60
    assert up.any()
    assert set(main.flag[up]) == {"along"}
    assert set(main.flag[widths < 15]) == {""}


def topology(found):
    lines, kinds = found["centerlines"], found["nodes"].kind.value_counts().to_dict()
    return kinds, len(lines) - len(found["nodes"]) + 1


def test_a_ring_has_two_junctions_and_one_cycle():
    rows, cols = np.mgrid[:200, :300] + 0.5
    radius = np.hypot(rows - 100, cols - 150)
    ring = np.abs(radius - 60) < 6
    mask = ring | ((np.abs(rows - 100) < 6) & (np.abs(cols - 150) > 58))
    found = measured(mask)
    assert topology(found) == ({"junction": 2, "edge": 2}, 1)
    assert len(found["centerlines"]) == 4
    assert found["centerlines"].main.sum() == 3
    ends = found["centerlines"].length_m.sort_values()
    assert ends.iloc[2:].mean() / PX == pytest.approx(np.pi * 60, rel=0.03)


def test_a_braid_of_five_channels_has_four_cycles():
    rows, cols = np.mgrid[:300, :500] + 0.5
    belt = np.clip(np.minimum(cols - 100, 400 - cols) / 60, 0, 1)
    mask = np.zeros(rows.shape, bool)
    for number in range(-2, 3):
        mask |= np.abs(rows - 150 - 50 * number * belt) < 6 * np.hypot(1, 50 / 60)
    found = measured(mask)
    kinds, cycles = topology(found)
    assert cycles == 4
    assert kinds["edge"] == 2
    assert "end" not in kinds
    main = found["transects"].merge(found["centerlines"][["reach_id", "main"]])
    middle = main[main.main & (main.n_channels == 5)]
    assert len(middle) > 5
    assert middle.span_m.max() / PX > 200
    five = mask[:, 250].sum() * PX * scale(found)
    assert middle.width_m.median() == pytest.approx(five, rel=0.02)


@pytest.mark.parametrize(("crs", "pixel"), [("EPSG:4326", 1.2e-4), ("EPSG:3857", 20.0)])
def test_a_river_is_the_same_in_any_crs(crs, pixel):
    line, _ = meander(70, 12)
    utm = shapely.LineString(line * PX + [500500, 6650000])
    in_utm = on_the_ground(utm.buffer(60, cap_style="flat"), UTM, PX)
    there = pyproj.Transformer.from_crs(UTM, crs, always_xy=True)
    other = shapely.transform(
        utm.buffer(60, cap_style="flat"), lambda xy: np.stack(there.transform(*xy.T), axis=1)
    )
    in_other = on_the_ground(other, crs, pixel)
    for layer, column in (("centerlines", "length_m"), ("transects", "width_m")):
        values = [found[layer][column] for found in (in_utm, in_other)]
        totals = [v.sum() if column == "length_m" else v.mean() for v in values]
        assert totals[1] == pytest.approx(totals[0], rel=0.01)


@pytest.mark.parametrize("left", [200.0, 179.99, -180.02])
def test_every_layer_lies_with_its_outlines_on_either_side_of_the_antimeridian(left):
    mask = sinuous_river_mask((120, 200), 2)
    affine = Affine(2e-4, 0, left, 0, -2e-4, 10.0)
    raster = in_scene(mask, "EPSG:4326", affine)
    probability = in_scene(np.where(mask, 0.9, 0.1).astype("float32"), "EPSG:4326", affine)
    water = outlines(raster)
    found = measure_rivers(water, edge=footprint(raster), probability=probability)
    x_min, y_min, x_max, y_max = water.total_bounds
    around = shapely.box(x_min, y_min, x_max, y_max).buffer(3e-3)
    for name, layer in found.items():
        assert len(layer) and layer.is_valid.all(), name
        assert layer.within(around).all(), name
    assert found["transects"].width_low_m.median() > 20


def test_an_edge_and_a_probability_of_other_longitudes_are_those_of_the_river():
    mask = sinuous_river_mask((120, 200), 2)
    ours, theirs = (Affine(2e-4, 0, left, 0, -2e-4, 10.0) for left in (200.0, -160.0))
    wet = np.where(mask, 0.9, 0.1).astype("float32")
    given = [
        {
            "edge": footprint(in_scene(mask, "EPSG:4326", affine)),
            "probability": in_scene(wet, "EPSG:4326", affine),
        }
        for affine in (ours, theirs)
    ]
    water = outlines(in_scene(mask, "EPSG:4326", ours))
    same, other = (measure_rivers(water, **each) for each in given)
    assert list(other["nodes"].kind) == list(same["nodes"].kind)
    assert other["transects"].width_low_m.mean() == pytest.approx(
        same["transects"].width_low_m.mean()
    )


def on_the_ground(river, crs, pixel):
    left, bottom, right, top = river.bounds
    grid = GeoBox.from_bbox(
        (left - 20 * pixel, bottom - 20 * pixel, right + 20 * pixel, top + 20 * pixel),
        crs,
        resolution=pixel,
    )
    mask = rasterio.features.rasterize([river], out_shape=grid.shape, transform=grid.affine)
    raster = odc.geo.xr.wrap_xr(mask.astype(bool), grid)
    return measure_rivers(outlines(raster), edge=footprint(raster))


def test_lines_stay_in_the_water_and_meet_in_their_nodes():
    rng = np.random.default_rng(3)
    noise = np.cumsum(rng.standard_normal((150, 300)), axis=1)
    mask = sinuous_river_mask((150, 300), n_islands=3) | (noise > 12)
    mask[:, :1] = False
    raster = in_scene(mask)
    water = outlines(raster, min_island=0)
    found = measure_rivers(water, edge=footprint(raster), pixel_m=PX)
    near = shapely.union_all(water.geometry.to_numpy()).buffer(0.01)
    assert shapely.covers(near, found["centerlines"].geometry.to_numpy()).all()
    places = found["nodes"].set_index("node_id").geometry
    for column, end in (("from_node", 0), ("to_node", -1)):
        ends = shapely.get_point(found["centerlines"].geometry.to_numpy(), end)
        nodes = places[found["centerlines"][column]].to_numpy()
        assert shapely.distance(ends, nodes).max() < 1e-3
    holes = outlines_with_lines(water, found).n_islands.sum()
    rivers = found["centerlines"].river_id.nunique()
    assert len(found["centerlines"]) - len(found["nodes"]) + rivers == holes


def outlines_with_lines(water, found):
    return water[water.river_id.isin(found["centerlines"].river_id)]


def test_a_diagonal_stream_of_single_pixels_is_one_line():
    mask = np.eye(80, dtype=bool)
    found = measured(mask)
    assert len(found["centerlines"]) == 1
    assert found["centerlines"].length_m.item() / PX / scale(found) == pytest.approx(
        80 * np.sqrt(2), rel=0.02
    )


def test_banks_lie_left_and_right_and_are_the_outline():
    line, length = meander(60, 10)
    raster = in_scene(drawn(line, 10))
    water = outlines(raster)
    found = measure_rivers(water, edge=footprint(raster), pixel_m=PX, flow="e")
    banks = found["banks"].set_index("side").geometry
    ring = water.geometry.iloc[0].exterior
    middle = found["centerlines"].geometry.iloc[0]
    assert banks["left"].hausdorff_distance(banks["right"]) > 5 * PX
    for side, sign in (("left", 1), ("right", -1)):
        assert shapely.covers(ring.buffer(0.01), banks[side])
        assert banks[side].length == pytest.approx(length * PX, rel=0.1)
        beside = middle.offset_curve(sign * 5 * PX)
        away = shapely.distance(beside, shapely.points(banks[side].coords))
        assert np.percentile(away, 90) < PX
    assert middle.coords[0][0] < middle.coords[-1][0]
    back = measure_rivers(water, edge=footprint(raster), pixel_m=PX, flow="w")
    assert back["banks"].set_index("side").geometry["left"].equals(banks["right"].reverse()) or (
        back["banks"].set_index("side").geometry["left"].hausdorff_distance(banks["right"]) < PX
    )


def main_line_of(river, shape=(300, 400)):
    """The main line as a LineString in pixels, x to the right and y down."""
    mask = rasterio.features.rasterize([river], out_shape=shape).astype(bool)
    found = measured(mask)
    lines = found["centerlines"].geometry[found["centerlines"].main]
    x, y = np.concatenate([shapely.get_coordinates(line) for line in lines]).T
    return shapely.LineString(np.stack([(x - 5e5) / PX, (5e6 - y) / PX], axis=1))


def test_the_main_line_keeps_to_a_wide_bend_beside_a_narrow_chute():
    bend = shapely.LineString(
        [(0, 200), (120, 200), (120, 100), (280, 100), (280, 200), (400, 200)]
    )
    for chute, taken in ((10, False), (16, True)):
        straight = shapely.LineString([(120, 200), (280, 200)]).buffer(chute / 2)
        main = main_line_of(shapely.union(bend.buffer(10), straight))
        assert (main.distance(shapely.Point(200, 200)) < 5) == taken
        assert (main.distance(shapely.Point(200, 100)) < 5) != taken


def test_a_bend_that_was_cut_off_and_leaves_the_scene_does_not_hold_the_main_line():
    new = shapely.LineString([(150, -5), (150, 305)]).buffer(10)
    old = shapely.LineString([(150, 150), (370, 150), (370, 40), (330, 40), (330, 305)]).buffer(5)
    main = main_line_of(shapely.union(new, old))
    assert main.hausdorff_distance(shapely.LineString([(150, 0), (150, 300)])) < 3


def test_a_main_line_without_exits_follows_its_bends_and_does_not_turn_back():
    # An arm comes back from where a narrow outlet goes on, and nearly meets the river again.
    river = shapely.LineString([(100, 20), (100, 200)]).buffer(12)
    arm = shapely.LineString([(180, 60), (180, 200), (100, 200)]).buffer(8)
    link = shapely.LineString([(100, 50), (180, 60)]).buffer(2)
    outlet = shapely.LineString([(100, 200), (100, 285)]).buffer(4)
    main = main_line_of(shapely.union_all([river, arm, link, outlet]))
    assert main.distance(shapely.Point(100, 30)) < 6
    assert main.distance(shapely.Point(100, 280)) < 6
    assert main.distance(shapely.Point(180, 150)) > 50


def test_arms_that_join_at_the_scene_edge_have_lines_that_do_not_double_back():
    west = [(2, 0), (2, 127), (97, 127), (97, 120), (125, 100), (165, 65)]
    east = [(160, 62), (130, 80), (110, 78), (90, 80), (65, 94), (60, 90), (60, 0)]
    mask = rasterio.features.rasterize([shapely.Polygon(west + east)], out_shape=(127, 200))
    found = measured(mask.astype(bool))
    lines = found["centerlines"].geometry
    assert shapely.is_simple(lines.to_numpy()).all()
    for line in lines:
        steps = np.diff(shapely.get_coordinates(line), axis=0)
        steps /= np.hypot(*steps.T)[:, None]
        assert (steps[1:] * steps[:-1]).sum(axis=1).min(initial=1) > 0


def test_a_transect_of_a_side_channel_does_not_measure_the_river_it_joins():
    rows, cols = np.mgrid[:240, :400] + 0.5
    tributary = (np.abs(cols - 200 + 2 * (rows - 140)) < 3 * np.hypot(1, 2)) & (rows < 170)
    found = measured((np.abs(rows - 170) < 20) | tributary)
    lines, transects = found["centerlines"], found["transects"]
    side = transects[transects.reach_id.isin(lines.reach_id[~lines.main]) & (transects.flag == "")]
    assert len(side) > 10
    assert side.width_m.to_numpy() / PX / scale(found) == pytest.approx(6, rel=0.15)


def test_transects_that_meet_in_a_tight_bend_are_flagged():
    bend = shapely.LineString([(20, 20), (120, 50), (20, 80)]).buffer(10)
    mask = rasterio.features.rasterize([bend], out_shape=(100, 150)).astype(bool)
    found = measured(mask)
    main = found["centerlines"].reach_id[found["centerlines"].main]
    transects = found["transects"]
    transects = transects[transects.reach_id.isin(main)].reset_index(drop=True)
    tree = shapely.STRtree(transects.geometry.to_numpy())
    first, second = tree.query(transects.geometry.to_numpy(), predicate="intersects")
    first, second = first[first != second], second[first != second]
    flagged = (transects.flag == "crosses").to_numpy()
    assert flagged.any()
    assert set(np.flatnonzero(flagged)) <= set(first)
    assert (flagged[first] | flagged[second]).all()
    assert flagged.sum() < len(np.unique(first))


def test_standing_water_is_told_from_rivers():
    rows, cols = np.mgrid[:300, :400] + 0.5
    river = np.abs(rows - 60) < 6
    lake = np.hypot(rows - 230, cols - 320) < 40
    pond = np.hypot(rows - 280, cols - 30) < 6
    pool = np.hypot(rows - 72, cols - 200) < 3
    around = np.hypot(rows - 120, cols - 100)
    oxbow = (np.abs(around - 30) < 5) & (cols < 115)
    found = measured(river | lake | pond | pool | oxbow)
    table = found["outlines"]
    at = {
        name: table.kind[table.contains(shapely.Point(5e5 + c * PX, 5e6 - r * PX))].item()
        for name, r, c in (
            ("river", 60, 50),
            ("lake", 230, 320),
            ("pond", 280, 30),
            ("pool", 72, 200),
            ("oxbow", 120, 70),
        )
    }
    assert at == {name: name for name in at}
    with_lines = table.river_id[table.kind.isin(["river", "oxbow"])]
    assert set(found["centerlines"].river_id) == set(with_lines)


def test_a_river_goes_on_across_a_bridge_without_water_under_it():
    mask = np.zeros((60, 200), bool)
    mask[25:35] = True
    mask[:, 98:101] = False
    apart = measured(mask)
    joined = measured(mask, join_gap=50.0)
    assert apart["outlines"].river_id.nunique() == 2
    assert joined["outlines"].river_id.nunique() == 1
    assert joined["centerlines"].main.all()
    assert joined["centerlines"].length_m.sum() == pytest.approx(
        apart["centerlines"].length_m.sum()
    )
    on_line = joined["transects"].distance_m.sort_values().to_numpy()
    assert on_line[-1] > joined["centerlines"].length_m.sum() - 50
    water = shapely.union_all(joined["outlines"].geometry.to_numpy()).buffer(0.01)
    assert shapely.covers(water, joined["transects"].geometry.to_numpy()).all()


@pytest.mark.parametrize("angle_deg", [0, 15, 45])
def test_low_and_high_widths_are_told_to_a_part_of_a_pixel(angle_deg):
    # The probability falls by a quarter a pixel: 0.75 lies one pixel within the bank, 0.25 one beyond.
    distance = signed_distance(angle_deg)
    probability = np.clip(0.5 + (9.3 / 2 - np.abs(distance)) / 4, 0, 1).astype("float32")
    raster = in_scene(probability)
    found = measure_rivers(outlines(raster), edge=footprint(raster), pixel_m=PX, probability=raster)
    true = PX * scale(found)
    # Every one of them, and not their mean alone; the first and last reach out of the scene.
    transects = found["transects"][1:-1]
    assert np.abs(transects.width_low_m / true - 7.3).max() < 0.15
    assert np.abs(transects.width_high_m / true - 11.3).max() < 0.15


def test_a_low_width_is_0_on_doubtful_water_and_a_high_one_unknown_without_an_end():
    rows = np.arange(120)[:, None] + np.full(200, 0.5)
    river = np.where(np.abs(rows - 60) < 5, 0.6, 0.0).astype("float32")
    river[:, 100:] += 0.3
    raster = in_scene(np.clip(river, 0, 1))
    water = outlines(in_scene(np.abs(rows - 60) < 5))
    found = measure_rivers(water, edge=footprint(raster), pixel_m=PX, probability=raster)
    table = found["transects"]
    col = (shapely.get_x(shapely.centroid(table.geometry.to_numpy())) - 5e5) / PX
    assert (table.width_low_m[col < 98] == 0).all()
    assert np.abs(table.width_low_m[col > 102] / PX - 10).max() < 1.1
    assert table.width_high_m[col > 102].isna().all()


def test_what_cannot_be_measured_is_said():
    box = shapely.box(5e5, 5e6, 501e3, 5e6 + 50)
    frame = gpd.GeoDataFrame(geometry=[box], crs=UTM)
    bow = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    cases = [
        (frame.iloc[:0], "no water"),
        (frame.assign(truncated=True), "All of the scene is water"),
        (gpd.GeoDataFrame(geometry=[bow], crs=UTM), "Self-intersection"),
        (gpd.GeoDataFrame(geometry=[box]), "no CRS"),
        (frame.set_crs(LOCAL, allow_override=True), "no place on Earth"),
        (frame.set_crs(4326, allow_override=True), "outside the domain"),
        (gpd.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=UTM), "hold a Point"),
    ]
    for outline, words in cases:
        with pytest.raises(InputError, match=words):
            measure_rivers(outline)
    for option in ({"flow": "up"}, {"spacing": 0}, {"spur": -1}, {"join_gap": -1}):
        with pytest.raises(OptionError):
            measure_rivers(frame, **option)


LOCAL = pyproj.CRS.from_wkt('LOCAL_CS["site grid",UNIT["metre",1]]')


def test_water_that_only_touches_a_corner_has_no_line_and_is_kept():
    mask = np.zeros((50, 50), bool)
    mask[:6, :6] = np.tri(6, dtype=bool)[::-1]
    found = measured(mask)
    assert found["outlines"].kind.tolist() == ["pond"]
    assert all(len(found[layer]) == 0 for layer in ("centerlines", "nodes", "transects", "banks"))


@pytest.mark.parametrize("gap", [0.0, 0.02])
def test_an_island_that_touches_the_bank_is_an_island(gap):
    x, y = 5e5, 5e6
    shell = [(x, y), (x + 1000, y), (x + 1000, y + 60), (x, y + 60)]
    hole = [(x + 400, y + 60 - gap), (x + 450, y + 20), (x + 500, y + 40)]
    found = measure_rivers(gpd.GeoDataFrame(geometry=[shapely.Polygon(shell, [hole])], crs=UTM))
    assert topology(found)[1] == 1


def test_a_neck_of_two_centimetres_does_not_part_a_river():
    x, y = 5e5, 5e6
    upper = [(x + 1000, y + 60), (x + 500, y + 30.01), (x, y + 60)]
    pinched = shapely.Polygon([(x, y), (x + 500, y + 29.99), (x + 1000, y), *upper])
    found = measure_rivers(gpd.GeoDataFrame(geometry=[pinched], crs=UTM))
    assert topology(found) == ({"end": 2}, 0)
    assert found["centerlines"].length_m.item() * SCALE == pytest.approx(1000, rel=0.05)


def test_a_closed_moat_has_a_line_around_it():
    rows, cols = np.mgrid[:120, :120] + 0.5
    found = measured(np.abs(np.hypot(rows - 60, cols - 60) - 40) < 4)
    line = found["centerlines"]
    assert len(line) == 1
    assert line.length_m.item() / PX == pytest.approx(2 * np.pi * 40, rel=0.01)
    assert np.isnan(found["reaches"].sinuosity.item())
