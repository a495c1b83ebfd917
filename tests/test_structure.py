"""The architecture: floors of modules, of which imports point down only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "efficientnet_elite"

FLOORS = (
    "errors config ops graph blocks spec",
    "scaling families ordering lowering memory footprint costs metric_table limits selection "
    "pools grouping rules cuts tournament outlook deadline replay ledger checkpoint "
    "learning_rate summary units workdir champions "
    "outcome task_queue budget planning "
    "summary_text tensorboard rendered rendered_objects "
    "rendered_masks segmentation_score table5 __init__",
    "keras_import group_conv models condense condense_layers data tasks training executors "
    "display driver pace search peers",
    "export benchmarks report",
    "cli __main__",
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names.split()}


def files() -> dict[str, Path]:
    """Module name, as installed, to its source file."""
    found = {}
    for folder, prefix in (
        (PACKAGE, PACKAGE),
        ("export", f"{PACKAGE}.export"),
        ("benchmarks", f"{PACKAGE}.benchmarks"),
    ):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join((prefix, *parts))
            found[name] = path
    return found


FILES = files()
MODULES = {name.removesuffix(".__init__") for name in FILES}


def floor(module: str) -> int:
    """Floor of one of our modules; a place for a new one is to be chosen in `FLOORS`."""
    parts = module.split(".")
    return FLOOR_OF[parts[1] if len(parts) > 1 else "__init__"]


def for_types_only(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Like `ast.walk`, without what only a type checker reads."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not for_types_only(child):
            yield from walk(child)


def imports(name: str) -> set[str]:
    """Full names of all modules that a module imports, at its top or later."""
    package = name.rpartition(".")[0]
    found = set()
    for node in walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in MODULES else base)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
            target = node.args[0]
            if isinstance(target, ast.Constant):
                found.add(resolve_name(target.value, package))
    return found


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == PACKAGE}


def tops(name: str) -> set[str]:
    return {imported.split(".")[0] for imported in imports(name)}


def everywhere(*floors: int) -> list[str]:
    return [name for name in FILES if floor(name) in floors]


def test_the_files_are_found():
    assert {f"{PACKAGE}.__init__", f"{PACKAGE}.export.__init__", f"{PACKAGE}.data.parts"} <= set(
        FILES
    )
    assert f"{PACKAGE}.ops" in imports(f"{PACKAGE}.blocks.mobile")
    assert f"{PACKAGE}.data.geometry" in imports(f"{PACKAGE}.data.parts")
    assert "tensorflow" in tops(f"{PACKAGE}.training")


@pytest.mark.parametrize("name", FILES)
def test_imports_point_down(name):
    # The package's own front door imports the factories when they are asked for.
    lazy = {f"{PACKAGE}.models"} if name == f"{PACKAGE}.__init__" else set()
    above = [other for other in ours(imports(name)) - lazy if floor(other) > floor(name)]
    assert above == []


def test_the_build_document_names_every_module():
    text = (ROOT / "BUILD.md").read_text()
    named = [name for names in FLOORS for name in names.split() if not name.startswith("__")]
    assert [n for n in named if not re.search(rf"`({PACKAGE}/)?{n}/?`", text)] == []


def test_imports_run_in_no_circle():
    graph = {
        name.removesuffix(".__init__"): ours(imports(name)) - {PACKAGE}
        for name in FILES
        if name != f"{PACKAGE}.__init__"
    }
    TopologicalSorter(graph).prepare()  # CycleError


@pytest.mark.parametrize("name", everywhere(0, 1))
def test_the_lower_floors_know_no_framework(name):
    frameworks = {"tensorflow", "keras", "keras_cv", "tensorflow_datasets", "tqdm", "absl"}
    allowed = {f"{PACKAGE}.__init__"}  # imports `models` on demand, never Keras itself
    assert not tops(name) & frameworks or name in allowed


def test_flags_are_the_command_lines_matter():
    with_flags = {name.split(".")[1] for name in FILES if "absl" in tops(name)}
    assert with_flags == {"cli", "benchmarks"}


def test_keras_cv_stays_in_one_module():
    assert len([name for name in FILES if "keras_cv" in tops(name)]) <= 1


def test_the_latency_program_needs_nothing_of_ours():
    """It is copied to boards: whatever `python -m benchmarks` imports lies in that folder."""
    prefix = f"{PACKAGE}.benchmarks"
    reached, todo = set(), {f"{prefix}.__main__"}
    while todo:
        name = todo.pop()
        reached.add(name)
        for other in ours(imports(name)):
            assert other.startswith(prefix), f"{name} imports {other}"
            todo |= {other, f"{other}.__init__"} & FILES.keys() - reached
        assert not tops(name) & {"tensorflow", "keras"}
    assert f"{prefix}.latency" in reached


def calls(name: str) -> set[str]:
    tree = ast.parse(FILES[name].read_text())
    return {
        ast.unparse(node.func) if isinstance(node, ast.Call) else ast.unparse(node)
        for node in walk(tree)
        if isinstance(node, ast.Call | ast.Attribute)
    }


@pytest.mark.parametrize("name", everywhere(0, 1, 2))
def test_the_library_reads_no_environment(name):
    assert not calls(name) & {"os.environ", "os.getenv"}


@pytest.mark.parametrize("name", everywhere(0, 1))
def test_the_lower_floors_print_nothing(name):
    assert "print" not in calls(name)
