import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pyogrio
import pytest

from geosam.testing import write_scene

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("[0-9]*.py"))
ANSWERS = {
    "01_segment_a_scene.py": ("rivers.gpkg", "probability above 0.5"),
    "02_your_own_prompts.py": ("own.gpkg", "with these prompts"),
    "03_compare_with_truth.py": ("all_bands.gpkg", "boundary F1"),
    "04_fine_tune_on_corrected_outlines.py": ("after.gpkg", "the loss of the"),
    "05_everything_in_a_scene.py": ("segments.gpkg", "segments in"),
    "06_ask_with_a_click.py": ("clicked.gpkg", "One click:"),
}
LAYERS = {"05_everything_in_a_scene.py": ("segments", 1000)}
"""Layer and area of its largest polygon at least, where not outlines and a hectare."""


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a script as Python does, in this process, and return what it prints."""

    def run_script(name: str, *arguments: str | Path) -> str:
        path = str(EXAMPLES / name)
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            runpy.run_path(path, run_name="__main__")
        return capsys.readouterr().out

    return run_script


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A scene and its truth as a user may have them: eight bits and colours only."""
    folder = tmp_path_factory.mktemp("own")
    return write_scene(folder, shape=(256, 320), seed=4, nir=False, dtype="uint8")


def test_each_example_has_a_test():
    assert sorted(ANSWERS) == SCRIPTS


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_runs_on_a_scene_it_draws(name, run, tmp_path):
    file, words = ANSWERS[name]
    assert words in run(name, "--output", tmp_path / "results")
    layer, least = LAYERS.get(name, ("outlines", 10_000))
    found = pyogrio.read_dataframe(tmp_path / "results" / file, layer=layer)
    assert found.area_m2.max() > least


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_runs_on_a_scene_of_ones_own(name, run, own, tmp_path):
    scene, truth = own
    more = ("--truth", truth) if "truth" in name else ()
    file, words = ANSWERS[name]
    assert words in run(name, scene, *more, "--output", tmp_path)
    assert (tmp_path / file).is_file()


def test_a_comparison_without_a_truth_says_what_is_missing(own):
    command = [sys.executable, EXAMPLES / "03_compare_with_truth.py", own[0]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert "needs --truth" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_is_narrated(name):
    text = (EXAMPLES / name).read_text()
    title, rule = text.splitlines()[1:3]
    assert rule == "=" * len(title)
    assert text.count("\n# %%\n") >= 3
