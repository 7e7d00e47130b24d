"""Training of the embedded models, on data made here."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from geosam.models.unet import CoarseConfig, CoarseWaterNet, save_coarse  # noqa: E402
from geosam.training.loop import Average, Schedule  # noqa: E402
from geosam.training.losses import bce_loss, dice_loss, focal_loss, mask_iou  # noqa: E402
from geosam.training.river_tiny import coarse as coarse_training  # noqa: E402
from geosam.training.river_tiny.augment import augment, cut_collar  # noqa: E402
from geosam.training.river_tiny.batch_prompts import PromptPlan, make_prompts  # noqa: E402
from geosam.training.river_tiny.mixes import INFRARED  # noqa: E402
from geosam.training.river_tiny.network import build_promptable, save_promptable, set_tile_size  # noqa: E402
from geosam.training.river_tiny.painting import (  # noqa: E402
    cast_shadows,
    lay_field,
    nested_shapes,
    paint_river,
    real_water,
)
from geosam.training.river_tiny.promptable import promptable_step  # noqa: E402
from geosam.training.river_tiny.rating import move_outline  # noqa: E402
from geosam.training.river_tiny.report import Shown, as_table, find_water, rate_coarse  # noqa: E402
from geosam.training.river_tiny.sources import make_scene  # noqa: E402
from geosam.training.river_tiny.target_source import TargetSource  # noqa: E402
from geosam.training.river_tiny.targets import one_component, segment_target, water_target  # noqa: E402
from geosam.training.river_tiny.tiles import NODATA_FILL, draw_tile, resample_label, stretch  # noqa: E402
from geosam.training.sample import IGNORE, LAND, WATER, Sample  # noqa: E402
from geosam.training.simulation import (  # noqa: E402
    DENSE_LOGIT,
    corrective_click,
    corrupt,
    deep_points,
    dense_logits,
    draw_box,
    signed_distance,
)


def river_scene(bands: int = 3, size: int = 128, source: str = "chips_s2_rgb"):
    """A bright land with a dark river across it and a black collar on the left."""
    rng = np.random.default_rng(0)
    rows, cols = np.mgrid[0:size, 0:size]
    label = (abs(rows - size / 2 - 10 * np.sin(cols / 15)) < 8).astype(np.uint8)
    land = rng.integers(120, 180, (bands, size, size))
    pixels = np.where(label == WATER, land // 3, land)
    pixels[:, :, :6] = 0
    label[:, :6] = IGNORE
    dtype = np.uint8 if bands == 3 else np.int16
    return make_scene(source, "river_1", pixels.astype(dtype), label)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.fixture
def disc() -> np.ndarray:
    rows, cols = np.mgrid[0:64, 0:64]
    return np.hypot(rows - 30, cols - 34) < 14


class TestTiles:
    def test_nodata_is_shown_as_the_fill_and_ignored_in_the_label(self, rng):
        sample = draw_tile(river_scene(), 128, rng, zoom=1.0)
        assert (sample.pixels[:, :, 0] == NODATA_FILL).all()
        assert (sample.label[:, 0] == IGNORE).all()

    def test_a_tile_beyond_a_small_scene_keeps_its_size(self, rng):
        sample = draw_tile(river_scene(size=64), 256, rng, zoom=1.0)
        assert sample.pixels.shape == (3, 256, 256)
        assert sample.label.shape == (256, 256)
        assert sample.pixels.min() >= 0
        assert sample.pixels.max() <= 1

    def test_five_bands_are_shown_in_the_order_asked_for(self, rng):
        scene = river_scene(bands=5)
        scene.levels[0][3] = np.where(scene.labels[0] == LAND, 900, 10)
        sample = draw_tile(scene, 128, rng, (3, 2, 1), zoom=1.0)
        water, land = sample.label == WATER, sample.label == LAND
        assert sample.pixels[0][water].mean() < 0.2 < sample.pixels[0][land].mean()

    def test_a_label_twice_as_large_covers_the_same_share(self):
        label = river_scene().labels[0]
        large = resample_label(label, 256)
        assert (large == WATER).mean() == pytest.approx((label == WATER).mean(), abs=0.01)

    def test_percentiles_come_from_the_whole_scene_and_not_from_the_window(self):
        scene = river_scene()
        window = scene.levels[0][:, 60:70, 60:70].astype(np.float32)
        whole = stretch(scene.levels[0].astype(np.float32), scene, (0, 1, 2), ("band", 1, 99))
        part = stretch(window, scene, (0, 1, 2), ("band", 1, 99))
        assert np.array_equal(part, whole[:, 60:70, 60:70])


class TestAugmentation:
    def test_nodata_stays_at_the_fill(self, rng):
        sample = draw_tile(river_scene(), 128, rng, zoom=1.0)
        share = (sample.label == IGNORE).mean()
        out = augment(sample, rng)
        assert (out.label == IGNORE).mean() >= share - 0.01
        assert (out.pixels[:, out.label == IGNORE] == NODATA_FILL).mean() > 0.9

    def test_no_strength_and_no_collar_leave_the_water_share(self, rng):
        sample = draw_tile(river_scene(), 128, rng, zoom=1.0)
        out = augment(sample, np.random.default_rng(3), strength=0.0)
        assert abs((out.label == WATER).mean() - (sample.label == WATER).mean()) < 0.2

    def test_a_collar_is_ignored(self, rng):
        pixels, label = np.zeros((3, 64, 64), np.float32), np.zeros((64, 64), np.uint8)
        pixels, label = cut_collar(pixels, label, rng)
        assert ((label == IGNORE) == (pixels[0] == NODATA_FILL)).all()


class TestPainting:
    def test_a_painted_river_is_labelled_and_shown(self):
        land = Sample(np.full((3, 128, 128), 0.9, np.float32), np.zeros((128, 128), np.uint8), 1.0)
        painted = [paint_river(land, np.random.default_rng(seed)) for seed in range(10)]
        assert sum((sample.label == WATER).any() for sample in painted) >= 8
        shown = next(sample for sample in painted if (sample.label == WATER).mean() > 0.03)
        change = abs(shown.pixels - land.pixels).mean(0)
        assert change[shown.label == WATER].mean() > 10 * change[shown.label == LAND].mean()

    def test_no_river_is_painted_over_nodata(self, rng):
        nowhere = Sample(
            np.full((3, 64, 64), NODATA_FILL, np.float32), np.full((64, 64), IGNORE, np.uint8), 1.0
        )
        painted = paint_river(nowhere, rng)
        assert np.array_equal(painted.pixels, nowhere.pixels)
        assert (painted.label == IGNORE).all()

    def test_a_river_shows_the_water_it_is_given(self):
        land = Sample(np.full((3, 128, 128), 0.9, np.float32), np.zeros((128, 128), np.uint8), 1.0)
        texture = np.full((3, 128, 128), 0.25, np.float32)
        painted = [
            paint_river(land, np.random.default_rng(seed), None, texture) for seed in range(10)
        ]
        deep = np.concatenate([sample.pixels[:, sample.label == WATER].T for sample in painted])
        assert np.median(deep) == pytest.approx(0.25, abs=0.02)

    def test_real_water_holds_pixels_of_water_alone(self):
        label = np.zeros((64, 64), np.uint8)
        label[:, :40] = WATER
        pixels = np.where(label == WATER, 0.2, 0.8) * np.ones((3, 1, 1))
        assert (real_water(Sample(pixels, label, 1.0)) == 0.2).all()
        assert real_water(Sample(pixels, np.where(label, LAND, WATER), 1.0), least=0.5) is None

    @pytest.mark.parametrize("change", [cast_shadows, lay_field])
    def test_shadows_and_fields_leave_labels_and_nodata(self, change):
        label = np.full((96, 96), LAND, np.uint8)
        label[:20] = IGNORE
        pixels = np.full((3, 96, 96), 0.8, np.float32)
        pixels[:, :20] = NODATA_FILL
        before = Sample(pixels, label, 1.0)
        after = [change(before, np.random.default_rng(seed)) for seed in range(10)]
        assert all(np.array_equal(sample.label, label) for sample in after)
        assert all((sample.pixels[:, :20] == NODATA_FILL).all() for sample in after)
        changed = [(abs(s.pixels - pixels).max(0) > 0.1).mean() for s in after]
        assert np.median(changed) > 0.01

    def test_shadows_darken_and_never_lighten(self):
        ground = Sample(np.full((3, 96, 96), 0.8, np.float32), np.zeros((96, 96), np.uint8), 1.0)
        shaded = cast_shadows(ground, np.random.default_rng(1)).pixels
        assert shaded.max() <= 0.8 + 1e-6
        assert shaded.min() < 0.6

    def test_a_field_is_laid_over_land_alone(self):
        label = np.full((96, 96), WATER, np.uint8)
        water = Sample(np.full((3, 96, 96), 0.3, np.float32), label, 1.0)
        for seed in range(5):
            assert np.array_equal(
                lay_field(water, np.random.default_rng(seed)).pixels, water.pixels
            )

    def test_nested_shapes_hold_one_another(self):
        for seed in range(20):
            _, masks = nested_shapes(64, np.random.default_rng(seed))
            areas = [mask.sum() for mask in masks]
            assert areas == sorted(areas)


class TestSimulation:
    def test_signed_distance_is_half_a_pixel_at_the_outline(self, disc):
        distance = signed_distance(disc)
        assert distance[disc].min() == 0.5
        assert distance[~disc].max() == -0.5

    def test_moving_out_and_back_returns_a_disc(self, disc):
        back = move_outline(move_outline(disc, 3), -3)
        assert (back & disc).sum() / (back | disc).sum() > 0.95

    def test_a_corrupted_mask_is_never_empty_and_mostly_overlaps(self, disc):
        overlaps = []
        for seed in range(60):
            mask = corrupt(disc, np.random.default_rng(seed))
            assert mask.any()
            overlaps.append((mask & disc).sum() / (mask | disc).sum())
        assert np.median(overlaps) > 0.5
        assert min(overlaps) < 0.9

    def test_some_corrupted_masks_are_the_truth_itself(self, disc):
        masks = [corrupt(disc, np.random.default_rng(seed)) for seed in range(60)]
        assert 3 <= sum(np.array_equal(mask, disc) for mask in masks) <= 30

    def test_dense_logits_have_the_stated_size(self, disc):
        assert set(np.unique(dense_logits(disc))) == {-DENSE_LOGIT, DENSE_LOGIT}

    def test_points_lie_inside_the_mask(self, disc, rng):
        for x, y in deep_points(disc, 50, rng):
            assert disc[int(y) // 2, int(x) // 2]

    def test_a_point_in_an_empty_mask_is_an_error(self, rng):
        with pytest.raises(ValueError, match="empty"):
            deep_points(np.zeros((8, 8), bool), 1, rng)

    def test_a_box_is_off_by_at_most_a_tenth_of_its_side(self, disc, rng):
        rows, cols = np.nonzero(disc)
        exact = np.array([cols.min(), rows.min(), cols.max() + 0.5, rows.max() + 0.5]) * 2
        side = exact[2] - exact[0]
        assert (abs(draw_box(disc, rng) - exact) <= 0.1 * side + 1).all()

    def test_a_corrective_click_falls_where_the_answer_is_wrong(self, disc, rng):
        known = np.ones_like(disc)
        missing = disc.copy()
        missing[:, 34:] = False
        (x, _), label = corrective_click(missing, disc, known, rng)
        assert label == 1
        assert x / 2 >= 34
        _, label = corrective_click(np.ones_like(disc), disc, known, rng)
        assert label == 0

    def test_a_target_of_one_component_is_connected(self, rng):
        label = np.zeros((64, 64), np.uint8)
        label[4:20, 4:20] = label[40:60, 40:60] = WATER
        target = water_target(Sample(np.zeros((3, 64, 64), np.float32), label, 1.0))
        part = one_component(target, rng)
        assert part.truth.sum() in (8 * 8, 10 * 10)

    def test_a_segment_follows_a_colour_edge(self, rng):
        pixels = np.zeros((3, 128, 128), np.float32)
        pixels[:, :, 64:] = 0.8
        target = segment_target(Sample(pixels, np.zeros((128, 128), np.uint8), 1.0), rng)
        if target is not None:
            assert target.truth[:, :31].all() != target.truth[:, 33:].all()


class TestLosses:
    def test_a_perfect_answer_costs_nothing(self, disc):
        truth = torch.from_numpy(disc).float()[None]
        logits, weight = (2 * truth - 1) * 50, torch.ones_like(truth)
        for loss in (dice_loss, bce_loss, focal_loss):
            assert float(loss(logits, truth, weight)) == pytest.approx(0, abs=1e-6)

    def test_ignored_pixels_cost_nothing(self, disc):
        truth = torch.from_numpy(disc).float()[None]
        logits, weight = torch.full_like(truth, -50), 1 - truth
        for loss in (dice_loss, bce_loss, focal_loss):
            assert float(loss(logits, truth, weight)) == pytest.approx(0, abs=1e-6)

    def test_losses_do_not_depend_on_the_orientation(self, disc):
        truth = torch.from_numpy(disc).float()[None]
        logits = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0))
        weight = torch.ones_like(truth)
        for loss in (dice_loss, bce_loss, focal_loss):
            turned = loss(logits.transpose(1, 2), truth.transpose(1, 2), weight)
            assert torch.allclose(loss(logits, truth, weight), turned)

    def test_half_a_river_missed_is_an_iou_of_a_half(self):
        truth = torch.zeros(1, 8, 8)
        truth[:, 2:4] = 1
        half = truth.clone()
        half[:, 3] = 0
        assert float(mask_iou(half, truth, torch.ones_like(truth))) == 0.5

    def test_two_empty_masks_agree(self):
        empty = torch.zeros(1, 8, 8)
        assert float(mask_iou(empty, empty, torch.ones_like(empty))) == 1.0


class TestLoop:
    def test_the_rate_rises_and_falls(self):
        schedule = Schedule(minutes=1, peak=1.0)
        rates = [schedule.rate(p) for p in (0.0, 0.03, 0.5, 1.0)]
        assert rates[0] < rates[1] > rates[2] > rates[3] > 0

    def test_the_average_follows_the_weights(self):
        net = torch.nn.Linear(2, 2)
        average = Average(net)
        with torch.no_grad():
            net.weight.fill_(1.0)
        for _ in range(200):
            average.update(net)
        assert torch.allclose(average.net.weight, net.weight, atol=0.05)

    def test_frozen_norms_keep_the_averaged_statistics_and_the_learned_scale(self):
        net = CoarseWaterNet(CoarseConfig((8, 8, 8, 8, 8), (0, 0, 0, 0, 0))).train()
        average = Average(net).net
        net(torch.rand(2, 3, 64, 64))
        coarse_training.freeze_norms(net, average)
        mine, theirs = net.stem[1].norm, average.stem[1].norm
        assert not mine.training
        assert torch.equal(mine.running_mean, theirs.running_mean)
        mine.weight.data.fill_(3.0)
        coarse_training.freeze_norms(net, average)
        assert float(mine.weight[0].detach()) == 3.0

    def test_a_short_training_of_the_coarse_network_writes_what_it_should(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(coarse_training, "BATCHES", ((64, 4),))
        torch.manual_seed(0)
        net = CoarseWaterNet(CoarseConfig((8, 8, 8, 8, 8), (0, 0, 0, 0, 0))).train()
        scenes = {"chips_s2_rgb": [river_scene()]}
        source = coarse_training.TileSource(scenes, np.random.default_rng(0))
        tiles = coarse_training.validation_tiles(scenes, count=2, size=64)
        recipe = coarse_training.CoarseRecipe(minutes=0.02, every=10)
        coarse_training.run_coarse(net, source, tiles, tmp_path, recipe)
        assert "chips_s2_rgb_iou" in (tmp_path / "coarse_log.csv").read_text()
        assert (tmp_path / "coarse" / "model.safetensors").exists()
        again = coarse_training.CoarseRecipe(minutes=0.03, every=10, resume=True)
        coarse_training.run_coarse(net, source, tiles, tmp_path, again)
        rows = (tmp_path / "coarse_log.csv").read_text().splitlines()
        steps = [int(row.split(",")[1]) for row in rows[1:]]
        assert steps == sorted(steps)
        assert len(set(steps)) == 2


@pytest.fixture(scope="module")
def model():
    return build_promptable(0)


class TestPromptable:
    def test_logits_lie_at_half_the_tile_for_several_sizes(self, model):
        for size in (64, 128, 160):
            with torch.no_grad():
                out = set_tile_size(model, size)(
                    pixel_values=torch.zeros(1, 3, size, size),
                    input_masks=torch.zeros(1, 1, size // 2, size // 2),
                    multimask_output=False,
                )
            assert out.pred_masks.shape == (1, 1, 1, size // 2, size // 2)

    @pytest.mark.parametrize(
        "plan",
        [
            PromptPlan(True, 0, 0, False),
            PromptPlan(True, 3, 2, False),
            PromptPlan(False, 1, 0, False),
            PromptPlan(False, 1, 0, True),
        ],
    )
    def test_every_kind_of_prompt_gives_the_network_a_gradient(self, model, plan, monkeypatch):
        from geosam.training.river_tiny import promptable

        monkeypatch.setattr(promptable, "draw_plan", lambda rng: plan)
        source = TargetSource({"chips_s2_rgb": [river_scene()]}, np.random.default_rng(0))
        model.zero_grad()
        loss = promptable_step(model, source, 64, 2)
        loss.backward()
        gradient = model.vision_encoder.backbone.patch_embed.projection.weight.grad
        assert torch.isfinite(loss)
        assert gradient is not None
        assert float(gradient.abs().sum()) > 0

    def test_prompts_of_a_batch_have_one_shape(self, rng):
        source = TargetSource({"chips_s2_rgb": [river_scene()]}, rng)
        plan = PromptPlan(True, 2, 1, False)
        prompts = make_prompts([source.draw(plan, 64) for _ in range(3)], plan, rng)
        assert prompts.points.shape == (3, 1, 3, 2)
        assert prompts.labels.shape == (3, 1, 3)
        assert prompts.masks.shape == (3, 1, 32, 32)

    def test_saved_weights_load_through_transformers_for_another_tile_size(self, model, tmp_path):
        from transformers import Sam2Model

        save_promptable(model, tmp_path)
        loaded = Sam2Model.from_pretrained(tmp_path, dtype=torch.float32).eval()
        pixels, masks = torch.rand(1, 3, 96, 96), torch.zeros(1, 1, 48, 48)
        with torch.no_grad():
            mine, theirs = (
                set_tile_size(m, 96)(
                    pixel_values=pixels, input_masks=masks, multimask_output=False
                ).pred_masks
                for m in (model.eval(), loaded)
            )
        assert torch.allclose(mine, theirs, atol=0.05)
        assert (tmp_path / "preprocessor_config.json").exists()


class TestExport:
    def test_a_settled_threshold_cuts_off_what_is_false(self):
        class Bright(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.head = torch.nn.Conv2d(1, 1, 1)
                torch.nn.init.ones_(self.head.weight)
                torch.nn.init.zeros_(self.head.bias)

            def forward(self, pixels):
                return self.head(pixels[:, :1])

        label = np.zeros((32, 32), np.uint8)
        label[10:20] = WATER
        wet = Sample(np.where(label == WATER, 2.0, 0.6)[None].repeat(3, 0), label, 1.0)
        dry = Sample(np.full((3, 32, 32), 0.6), np.zeros_like(label), 1.0)
        tiles = [Sample(x.pixels.astype(np.float32), x.label, 1.0) for x in (wet, dry)]
        net = Bright()
        shift = coarse_training.settle_threshold(net, {"made up": tiles})
        assert 0.6 < shift < 2.0
        assert float(net.head.bias.detach()) == -shift

    def test_what_was_trained_lands_in_one_folder(self, tmp_path, monkeypatch, model):
        import geosam.training.river_tiny.__main__ as river_tiny

        scenes = {"chips_s2_rgb": [river_scene()]}
        monkeypatch.setattr(river_tiny, "load_all", lambda *_: scenes)
        net = CoarseWaterNet(CoarseConfig((8, 8, 8, 8, 8), (0, 0, 0, 0, 0)))
        save_coarse(net.eval(), tmp_path / "runs" / "coarse")
        save_promptable(model, tmp_path / "runs" / "promptable")
        for name in ("coarse", "promptable"):
            (tmp_path / "runs" / f"{name}_log.csv").write_text("minutes,steps\n1,2\n")
        command = ["export", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
        for name, trained in (("coarse", "coarse"), ("coarse-infrared", "coarse")):
            command += [f"--{name}", str(tmp_path / "runs" / trained)]
        river_tiny.main([*command, "--promptable", str(tmp_path / "runs" / "promptable")])
        found = {path.name for path in (tmp_path / "out").iterdir()}
        files = {"config.json", "model.safetensors", "preprocessor_config.json"}
        assert found == files | {"coarse", "coarse_infrared", "training_log.csv"}
        rows = (tmp_path / "out" / "training_log.csv").read_text().split()
        assert rows == ["minutes,steps", "1,2"] * 3

    def test_the_infrared_mix_shows_near_infrared_and_all_labels(self):
        """A scene whose near infrared alone is bright must look so in its first band alone."""
        pixels = np.full((5, 96, 96), 100, np.int16)
        pixels[3, :, :48], pixels[:3, 0, 0] = 3000, 200
        scene = make_scene("synthetic", "made", pixels, np.zeros((96, 96), np.uint8))
        source = coarse_training.TileSource(
            {"synthetic": [scene]}, np.random.default_rng(0), INFRARED
        )
        spread = np.mean([source.draw(64)[0].pixels.std(axis=(1, 2)) for _ in range(8)], axis=0)
        assert spread[0] > 3 * spread[1:].max()


class TestReport:
    def test_a_blended_image_is_as_good_as_its_tiles(self):
        class Dark(torch.nn.Module):
            def forward(self, pixels):
                return 1 - 2 * pixels[:, :1]

        pixels = np.random.default_rng(0).random((3, 150, 90)).astype(np.float32)
        assert np.allclose(find_water(Dark(), pixels, size=64), 1 - 2 * pixels[0], atol=1e-5)

    def test_wet_and_dry_images_are_measured_apart(self):
        class Dark(torch.nn.Module):
            def forward(self, pixels):
                return 0.5 - pixels[:, :1]

        water = np.zeros((64, 64), bool)
        water[20:30] = True
        known = np.ones_like(water)
        pixels = np.where(water, 0.1, 0.9)[None].repeat(3, 0).astype(np.float32)
        wet, dry = Shown(pixels, water, known, 1.0), Shown(pixels, water & False, known, 1.0)
        row = rate_coarse(Dark(), [wet, dry])
        assert row["IoU median"] == 1.0
        assert row["false mean"] == pytest.approx(10 / 64)
        assert "1.000" in as_table({"made up": row})
