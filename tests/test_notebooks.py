import base64
from pathlib import Path

import nbformat
import pandas as pd
import pyogrio
import pytest
from nbclient import NotebookClient

from geosam.testing import write_scene

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
UCAYALI = Path(__file__).parents[2] / "shared" / "data" / "scenes"
FIRST = NOTEBOOKS / "01_first_river.ipynb"
SECOND = NOTEBOOKS / "02_fine_tune.ipynb"
THIRD = NOTEBOOKS / "03_moving_river.ipynb"
CLICK = NOTEBOOKS / "04_click.ipynb"
EVERYTHING = NOTEBOOKS / "05_everything.ipynb"
LARGE = NOTEBOOKS / "06_large_scene.ipynb"
ALL = pytest.mark.parametrize(
    "path", [FIRST, SECOND, THIRD, CLICK, EVERYTHING, LARGE], ids=lambda path: path.stem
)
LAYERS = {"outlines", "islands", "prompts", "prompt_boxes", "prompt_masks", "tiles", "runs"}


def execute(folder: Path, path: Path = FIRST, **parameters: object) -> nbformat.NotebookNode:
    """Run a notebook to its end in a folder, with other values in its first cell."""
    notebook = nbformat.read(path, as_version=4)
    asked = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    asked.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    return client.execute()


def outputs(notebook: nbformat.NotebookNode) -> list:
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def figures(notebook: nbformat.NotebookNode) -> list[bytes]:
    data = [output.data for output in outputs(notebook) if "data" in output]
    return [base64.b64decode(kinds["image/png"]) for kinds in data if "image/png" in kinds]


def printed(notebook: nbformat.NotebookNode, stream: str = "stdout") -> str:
    return "".join(output.text for output in outputs(notebook) if output.get("name") == stream)


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    return execute(folder, side=512), folder / "first_river"


def test_the_notebook_runs_to_its_end_and_draws_its_figures(walked):
    notebook, _ = walked
    assert "Written to" in printed(notebook)
    pictures = figures(notebook)
    assert len(pictures) >= 9
    assert min(len(picture) for picture in pictures) > 50_000


def test_the_notebook_shows_no_warnings(walked):
    shown = printed(walked[0], "stderr").splitlines()
    assert not [line for line in shown if "Warning" in line]


def test_the_notebook_leaves_a_geopackage_with_all_layers_and_rivers_in_it(walked):
    _, results = walked
    layers = {str(name) for name, _ in pyogrio.list_layers(results / "rivers.gpkg")}
    assert layers >= LAYERS
    rivers = pyogrio.read_dataframe(results / "rivers.gpkg", layer="outlines")
    assert rivers.area_m2.max() > 20_000
    for name in ("probability.tif", "mask.tif", "rivers.png", "own.gpkg", "rgb.gpkg"):
        assert (results / name).stat().st_size > 1000


def test_the_notebook_takes_a_scene_of_ones_own_without_a_truth_or_a_near_infrared(tmp_path):
    scene, _ = write_scene(
        tmp_path, shape=(256, 320), seed=4, nir=False, dtype="uint8", crs="EPSG:3857"
    )
    notebook = execute(tmp_path, my_scene=str(scene))
    text = printed(notebook)
    assert "No truth was given" in text
    assert "nothing to compare" in text
    assert len(figures(notebook)) >= 7


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    return execute(folder, SECOND, epochs=1, side=256), folder / "fine_tune"


def test_the_second_notebook_runs_to_its_end_and_draws_its_figures(tuned):
    notebook, results = tuned
    assert "Written to" in printed(notebook)
    pictures = figures(notebook)
    assert len(pictures) >= 6
    assert min(len(picture) for picture in pictures) > 10_000
    for name in ("tuned/best/model.safetensors", "prompter/best/autosam", "tuned/curves.png"):
        assert (results / name).exists()
    windows = pd.read_csv(results / "tuned/windows.csv")
    assert windows.groupby("example").part.nunique().max() == 1  # no scene in two parts
    assert "upstream" in set(windows.example)  # the corrected GeoPackage


def test_the_second_notebook_shows_no_warnings(tuned):
    shown = printed(tuned[0], "stderr").splitlines()
    assert not [line for line in shown if "Warning" in line]


@pytest.mark.slow
def test_what_the_second_notebook_says_of_held_out_scenes_is_so(tmp_path):
    execute(tmp_path, SECOND)
    prompts, scenes = (
        pd.read_csv(tmp_path / f"fine_tune/by_{name}.csv", index_col=0)
        for name in ("prompt", "scene")
    )
    gain = prompts["tuned"] - prompts["median IoU as shipped"]
    assert gain["a rough mask"] > 0.03
    assert gain["a box"] > 0.03
    assert gain.mean() > 0.05
    for n in (1, 2):
        shipped, decoder, learnt = (
            scenes.loc[f"{name}, scene {n}"]
            for name in ("as shipped", "decoder tuned", "prompts learnt")
        )
        assert decoder.precision > shipped.precision
        assert learnt.IoU > shipped.IoU + 0.05
        assert learnt.recall > decoder.recall


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    return execute(folder, THIRD), folder / "moving_river"


def test_the_third_notebook_runs_to_its_end_and_finds_the_bend_that_was_cut_off(moved):
    notebook, results = moved
    assert "Written to" in printed(notebook)
    assert not [line for line in printed(notebook, "stderr").splitlines() if "Warning" in line]
    pictures = figures(notebook)
    assert len(pictures) >= 6
    assert min(len(picture) for picture in pictures) > 10_000
    cutoffs = pyogrio.read_dataframe(results / "change.gpkg", layer="cutoffs")
    assert cutoffs.to_date.tolist() == ["2005"]
    lines = pyogrio.read_dataframe(results / "river_2020.gpkg", layer="centerlines")
    assert lines.main.any()


@pytest.mark.slow
@pytest.mark.skipif(not UCAYALI.is_dir(), reason="needs ../shared/data/scenes")
def test_the_third_notebook_runs_on_the_ucayali(tmp_path):
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    for path in UCAYALI.glob("ucayali_*.tif"):
        (scenes / path.name).symlink_to(path)
    notebook = execute(tmp_path, THIRD, my_scenes=str(scenes))
    assert "8 dates" in printed(notebook)
    cutoffs = pyogrio.read_dataframe(tmp_path / "moving_river" / "change.gpkg", layer="cutoffs")
    assert cutoffs.length_lost_m.max() > 20_000


@pytest.mark.slow
def test_the_notebook_of_a_large_scene_is_killed_goes_on_and_asks_again(tmp_path):
    notebook = execute(tmp_path, LARGE, side=512)
    text = printed(notebook)
    assert "final file there: False" in text
    assert "dashboard: http://127.0.0.1" in text
    assert len(figures(notebook)) >= 2
    results = tmp_path / "large_scene"
    assert (results / "again.gpkg").exists()
    assert not (results / "rivers.gpkg.partial").exists()


def check_clicked(notebook: nbformat.NotebookNode, results: Path) -> None:
    assert "Written to" in printed(notebook)
    pictures = figures(notebook)
    assert len(pictures) == 4
    assert min(len(picture) for picture in pictures) > 10_000
    objects = pyogrio.read_dataframe(results / "objects.gpkg")
    assert objects["object"].tolist() == [1, 2]
    assert objects.geometry.iloc[0].area > 3 * objects.geometry.iloc[1].area


@pytest.mark.slow
def test_the_notebook_of_clicks_runs_to_its_end(tmp_path):
    check_clicked(execute(tmp_path, CLICK), tmp_path / "click")


@pytest.mark.slow
@pytest.mark.skipif(not UCAYALI.is_dir(), reason="needs ../shared/data/scenes")
def test_the_notebook_of_clicks_runs_on_the_ucayali(tmp_path):
    asked = {
        "my_scene": str(UCAYALI / "ucayali_2020.tif"),
        "bands": "swir1=1,nir=2,red=3,green=4",
        "on_river": (-74.438, -8.438),
        "on_pond": (-74.505, -8.470),
    }
    check_clicked(execute(tmp_path, CLICK, **asked), tmp_path / "click")


@pytest.mark.slow
def test_the_notebook_of_everything_runs_to_its_end(tmp_path):
    notebook = execute(tmp_path, EVERYTHING, side=320)
    assert "Written to" in printed(notebook)
    assert "The phrase 'castle' is not known" in printed(notebook)
    pictures = figures(notebook)
    assert len(pictures) == 4
    assert min(len(picture) for picture in pictures) > 10_000
    assert not [line for line in printed(notebook, "stderr").splitlines() if "Warning" in line]
    results = tmp_path / "everything"
    segments = pyogrio.read_dataframe(results / "segments.gpkg", layer="segments")
    assert len(segments) > 20
    for name in ("labels.tif", "annotations.json", "water.gpkg", "vegetation.gpkg"):
        assert (results / name).exists()


@ALL
def test_a_notebook_is_kept_without_outputs_and_for_any_python(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not outputs(notebook)
    assert notebook.metadata.kernelspec.name == "python3"


@ALL
def test_the_cells_a_reader_meets_are_short(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        folded = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert folded or cell.cell_type == "markdown" or len(cell.source.splitlines()) <= 25
