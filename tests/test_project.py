"""The project's own files agree with one another."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
OTHER_NAMES = {"dask[array]": "dask", "torch": "pytorch"}
"""What a package is called on conda-forge, where that differs."""


def declared():
    """Runtime dependencies of pyproject.toml: name -> bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pairs = (re.fullmatch(r"([\w\[\]-]+)(.*)", text).groups() for text in project["dependencies"])
    return dict(pairs) | {"python": project["requires-python"]}


def test_environment_and_pyproject_agree():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    listed = dict(
        re.fullmatch(r"([\w-]+)(.*)", text).groups() for text in environment["dependencies"]
    )
    assert listed == {OTHER_NAMES.get(name, name): bound for name, bound in declared().items()}


def test_constraints_pin_every_dependency_and_name_no_build():
    text = (ROOT / "constraints.txt").read_text()
    pinned = {
        line.split("==")[0] for line in text.splitlines() if line and not line.startswith("#")
    }
    assert "+" not in text
    names = {re.sub(r"\[.*\]", "", name) for name in declared()} - {"python"}
    assert names <= pinned


def test_the_version_is_the_one_of_the_changelog():
    import geosam

    changelog = (ROOT / "CHANGELOG.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert geosam.__version__ == project["version"]
    assert f"## {geosam.__version__}" in changelog


def test_the_readme_has_the_two_commands():
    readme = (ROOT / "README.md").read_text()
    assert "pip install torch==2.13.0 . && geosam demo -o demo/" in readme
    assert 'pip install torch==2.13.0 ".[test]" -c constraints.txt && pytest' in readme
    assert "pytest" in (ROOT / ".ci" / "run").read_text()
