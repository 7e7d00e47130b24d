"""Recipes: what a file says, what it may not say, and what an option says otherwise."""

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from geosam.errors import OptionError
from geosam.training.history import draw_history
from geosam.training.recipe import FitRecipe, ModelRecipe, Recipe, parse_recipe, read_recipe
from geosam.training.schedule import StepSchedule
from geosam.training.settings import SETTINGS, apply_settings, make_recipe


def test_a_recipe_that_is_written_and_read_again_is_the_same(tmp_path):
    recipe = make_recipe(
        str(tmp_path / "chips"),
        epochs=3,
        lr=7e-6,
        weight_decay=1e-5,
        loss="focal,0.5*dice+ce",
        flip=True,
        tile_size=128,
        zoom=2.0,
        places="prefix:2",
    )
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    assert read_recipe(tmp_path / "recipe.toml") == recipe


def test_paths_count_from_the_recipes_folder(tmp_path):
    (tmp_path / "recipe.toml").write_text('[data]\npath = "chips"\nby = "split.json:1"\n')
    data = read_recipe(tmp_path / "recipe.toml").data
    assert data.path == (str(tmp_path / "chips"),)
    assert data.by == str(tmp_path / "split.json:1")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[fit]\nepoch = 3", "unknown key epoch. Did you mean epochs?"),
        ("[fitt]\nepochs = 3", "unknown key fitt. Did you mean fit?"),
        ("epochs = 3", "Put it under [fit]"),
        ("[fit]\nepochs = 'three'", "epochs = 'three' must be a whole number"),
        ("[fit]\nepochs = 0", "fit.epochs is 0 and must be 1 or more"),
        ("[fit]\nlr = 3", "fit.lr is 3.0"),
        ("[prompts]\nkind = 'text'", "prompts.kind is 'text' and must be one of mixed, points"),
        ("[loss]\nlosses = []", "loss.losses is empty"),
        ("[data]\nvalidation = 0.6\ntest = 0.4", "leave something to train with"),
        ("[fit", "cannot be read as TOML"),
    ],
)
def test_a_wrong_recipe_is_one_sentence_that_names_what_is_wrong(tmp_path, text, named):
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(OptionError, match=r"\A[^\n]*\Z") as caught:
        read_recipe(tmp_path / "recipe.toml")
    assert named in str(caught.value)


def test_every_option_reaches_its_place_in_the_recipe():
    other = {str: "joint", int: 7, float: 0.07, bool: True}
    names = {"prompts": "box", "start": "scratch", "schedule": "constant", "precision": "bf16"}
    names |= {"best_by": "f1", "cache": "off", "erode": False, "unmatched": "skip"}
    for setting in SETTINGS:
        value = names.get(setting.name, other[setting.kind])
        recipe = apply_settings(Recipe(), {setting.name: value})
        found = getattr(getattr(recipe, setting.table), setting.key)
        assert found in (value, (value,)), setting.name
        assert found != getattr(getattr(Recipe(), setting.table), setting.key) or value == "joint"


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(OptionError, match=r"no option epoch\. Did you mean epochs?"):
        make_recipe("chips", epoch=3)


def test_what_an_option_does_not_say_stays_as_the_recipe_has_it():
    recipe = Recipe(model=ModelRecipe(part="lora:4"), fit=FitRecipe(epochs=9))
    assert apply_settings(recipe, {"lr": 1e-3, "epochs": None}) == replace(
        recipe, fit=FitRecipe(epochs=9, lr=1e-3)
    )


def test_the_rate_rises_in_ten_steps_as_the_published_recipe_has_it():
    schedule = StepSchedule(7e-6, steps=1000, warmup=10, shape="constant")
    for k in range(11):
        assert schedule.rate(k) == pytest.approx(7e-6 * (0.1 + 0.9 * k / 10), rel=1e-12)
    assert schedule.rate(999) == 7e-6


def test_the_rate_falls_along_half_a_cosine_to_a_hundredth():
    schedule = StepSchedule(1.0, steps=110, warmup=10)
    assert schedule.rate(60) == pytest.approx(0.01 + 0.99 * 0.5)
    assert schedule.rate(110) == pytest.approx(0.01)


def test_a_text_stands_for_a_list_of_one():
    assert parse_recipe({"loss": {"losses": "dice"}}).loss.losses == ("dice",)


def test_the_learning_rate_suits_the_checkpoint_unless_it_is_given(tmp_path):
    assert make_recipe("chips").fit.lr == make_recipe("chips", model="river-tiny").fit.lr == 1e-3
    assert make_recipe("chips", model="facebook/sam-vit-base").fit.lr == 1e-4
    assert make_recipe("chips", model="facebook/sam-vit-base", lr=7e-6).fit.lr == 7e-6
    (tmp_path / "recipe.toml").write_text("[fit]\nepochs = 3")
    assert make_recipe(tmp_path / "recipe.toml", model="facebook/sam-vit-base").fit.lr == 1e-4
    (tmp_path / "recipe.toml").write_text("[fit]\nlr = 1e-3")
    assert make_recipe(tmp_path / "recipe.toml", model="facebook/sam-vit-base").fit.lr == 1e-3
    assert make_recipe("chips", model="facebook/sam-vit-base", part="autosam").fit.lr == 1e-3
    assert parse_recipe({"model": {"name": "facebook/sam-vit-base"}}).fit.lr == 1e-4
    named = {"model": {"name": "facebook/sam-vit-base"}, "fit": {"lr": 3e-4}}
    assert parse_recipe(named).fit.lr == 3e-4
    other = parse_recipe({"model": {"name": "facebook/sam-vit-base", "part": "autosam"}})
    assert other.fit.lr == 1e-3


def test_the_curves_of_a_training_are_drawn_in_two_panels(tmp_path):
    nan = math.nan
    rows = [
        {"epoch": 0.0, "train_total": nan, "loss": 0.9, "iou_median": 0.2, "iou_mean": nan},
        {"epoch": 1.0, "train_total": 0.8, "loss": 0.5, "iou_median": 0.6, "iou_mean": 0.5},
    ]
    draw_history(tmp_path / "one.png", rows[:1])
    draw_history(tmp_path / "two.png", rows)
    first, second = (
        np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB"), int)
        for name in ("one", "two")
    )
    assert first.shape == second.shape
    changed = np.flatnonzero(np.abs(first - second).sum(axis=(0, 2)))
    middle = first.shape[1] // 2
    assert (changed < middle).any() and (changed > middle).any()
