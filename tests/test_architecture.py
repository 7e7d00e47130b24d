"""The import rules: what may know what, and what must not be loaded to show a help page."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "geosam"
FILES = {
    ".".join(("geosam", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in PACKAGE.rglob("*.py")
}
LEAVES = {
    "geosam.types",
    "geosam.errors",
    "geosam.tasks",
    "geosam.options",
    "geosam.generation_rules",
}
MAY_LEAVES_IMPORT = {
    "geosam.options": {"geosam.errors"},
    "geosam.generation_rules": {"geosam.errors"},
}
ORDER = {
    "geosam.pipeline",
    "geosam.job",
    "geosam.workers",
    "geosam.tables",
    "geosam.runs",
    "geosam.asking",
    "geosam.batch",
    "geosam.commands",
    "geosam.measuring",
    "geosam.changing",
    "geosam.inventory",
    "geosam.inspection",
    "geosam.planning",
}
ABOVE = {*ORDER, "geosam.demo", "geosam.cli"}
HEAVY = {"torch", "transformers", "rasterio", "geopandas", "pyogrio", "xarray", "dask", "numpy"}


def statements(module, *, inside_functions=False):
    tree = ast.parse(FILES[module].read_text())
    found = ast.walk(tree) if inside_functions else top_level(tree)
    return [node for node in found if isinstance(node, (ast.Import, ast.ImportFrom))]


def top_level(tree):
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        if isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from ast.walk(node)


def imported(module, *, inside_functions=False):
    """Return the full names of the modules that a module imports."""
    names = set()
    for node in statements(module, inside_functions=inside_functions):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            assert node.level == 0, f"{module} imports relatively"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in FILES else node.module for name in whole}
    return names


def own(names):
    return {name for name in names if name.split(".")[0] == "geosam"}


def is_above(module):
    return module in ABOVE or module.startswith("geosam.cli.") or module == "geosam.__main__"


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_a_leaf_imports_nothing_of_geosam(leaf):
    assert own(imported(leaf, inside_functions=True)) <= MAY_LEAVES_IMPORT.get(leaf, set())


def test_only_the_top_imports_the_pipeline_the_runs_and_the_command_line():
    wrong = {
        module: sorted(own(imported(module, inside_functions=True)) & ABOVE)
        for module in FILES
        if not is_above(module) and not module.startswith("geosam.training")
    }
    assert {module: names for module, names in wrong.items() if names} == {}


def test_training_is_imported_by_nothing_that_runs():
    wrong = [
        module
        for module in FILES
        if not module.startswith(("geosam.training", "geosam.cli.train"))
        and any(
            name.startswith("geosam.training") for name in imported(module, inside_functions=True)
        )
    ]
    assert wrong == []


def test_the_command_line_is_imported_by_nobody_else():
    users = [m for m in FILES if any(name.startswith("geosam.cli") for name in imported(m))]
    assert {m for m in users if not m.startswith("geosam.cli")} <= {"geosam.__main__"}


def test_torch_and_transformers_are_imported_at_the_top_only_in_models_and_training():
    homes = ("geosam.models", "geosam.training")
    wrong = [
        module
        for module in FILES
        if not module.startswith(homes)
        and {name.split(".")[0] for name in imported(module)} & {"torch", "transformers"}
    ]
    assert wrong == []


def test_no_module_asks_with_isinstance_whether_something_keeps_a_protocol():
    # Since Python 3.12 the answer is no for what has the methods by __getattr__, as a Resident has.
    trees = {module: ast.parse(path.read_text()) for module, path in FILES.items()}
    nodes = [(module, node) for module, tree in trees.items() for node in ast.walk(tree)]
    protocols = {
        node.name
        for _, node in nodes
        if isinstance(node, ast.ClassDef) and "Protocol" in map(ast.unparse, node.bases)
    }
    assert "ManyMaskModel" in protocols
    wrong = [
        f"{module}: {ast.unparse(node)}"
        for module, node in nodes
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("isinstance", "issubclass")
        and {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)} & protocols
    ]
    assert wrong == []


def test_no_module_imports_another_in_a_circle():
    graph = {module: own(imported(module)) - {"geosam"} for module in FILES}
    done = set()

    def visit(module, path):
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for name in graph.get(module, ()):
                visit(name, [*path, module])
            done.add(module)

    for module in graph:
        visit(module, [])


def test_no_module_asks_a_raster_for_its_grid_in_a_way_that_keeps_its_pixels():
    wrong = [
        f"{module}:{node.lineno}"
        for module in FILES
        for node in ast.walk(ast.parse(FILES[module].read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node).endswith(".odc.geobox")
    ]
    assert wrong == [], "use geosam.grids.geobox_of"


def test_no_module_prints():
    wrong = [
        f"{module}:{node.lineno}"
        for module in FILES
        for node in ast.walk(ast.parse(FILES[module].read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]
    assert wrong == []


def loaded_after(code):
    code += "; import sys; sys.stdout.write(chr(10) + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_importing_geosam_loads_nothing_heavy():
    assert not loaded_after("import geosam") & {*HEAVY, "click"}


def test_a_help_page_loads_nothing_heavy():
    code = (
        "from click.testing import CliRunner; from geosam.cli.app import app; "
        "assert CliRunner().invoke(app, ['segment', '--help']).exit_code == 0"
    )
    assert not loaded_after(code) & HEAVY


def test_every_public_name_is_there():
    import geosam

    assert all(getattr(geosam, name) is not None for name in geosam.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = geosam.nothing
