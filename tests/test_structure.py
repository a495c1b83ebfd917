"""The architecture: ten rooms, of which imports point down only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

from efficientnet_elite.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGE = "efficientnet_elite"

# From the top down. A room may import from those below it; rooms of one line from none beside
# them. The loose modules of the package's root are in the last line (and the front door).
ORDER = (
    "cli studies",
    "job",
    "report export benchmarks",
    "search",
    "training",
    "data",
    "device",
    "networks",
    "config errors callable_rooms fields machine registry text",
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(reversed(ORDER)) for room in rooms.split()}
# What users call stands at the bottom, so that every room may import it, and imports the function
# that is asked for only when it is.
DOORS = {f"{PACKAGE}.__init__", f"{PACKAGE}.callable_rooms"}
FRONT_DOOR = {"__init__": FLOOR_OF["text"], "__main__": FLOOR_OF["cli"]}


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


def room(module: str) -> str:
    """Name of the room that a module stands in; a loose module is a room of its own."""
    parts = module.split(".")
    if parts[1:3] == ["benchmarks", "studies"]:
        return "studies"
    return parts[1] if len(parts) > 1 else "__init__"


def floor(module: str) -> int:
    """Floor of a module's room; a new room is to be given its place in `ORDER`."""
    name = room(module)
    return FRONT_DOOR[name] if name in FRONT_DOOR else FLOOR_OF[name]


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
        elif isinstance(node, ast.Call) and "import_module" in (
            getattr(node.func, "id", ""),
            getattr(node.func, "attr", ""),  # importlib.import_module
        ):
            target = node.args[0]
            if isinstance(target, ast.Constant):
                found.add(resolve_name(target.value, package))
    return found


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == PACKAGE}


def tops(name: str) -> set[str]:
    return {imported.split(".")[0] for imported in imports(name)}


def test_the_files_are_found():
    assert {f"{PACKAGE}.__init__", f"{PACKAGE}.export.__init__", f"{PACKAGE}.data.parts"} <= set(
        FILES
    )
    assert f"{PACKAGE}.networks.ops" in imports(f"{PACKAGE}.networks.blocks.mobile")
    assert f"{PACKAGE}.data.geometry" in imports(f"{PACKAGE}.data.parts")
    assert "tensorflow" in tops(f"{PACKAGE}.training.step")


@pytest.mark.parametrize("name", FILES)
def test_imports_point_down(name):
    if name in DOORS:
        return
    mine = room(name)
    upward = [
        other for other in ours(imports(name)) if room(other) != mine and floor(other) > floor(name)
    ]
    assert upward == []


def test_rooms_run_in_no_circle():
    """Rooms of one floor may import from one another, but not both ways."""
    graph: dict[str, set[str]] = {}
    for name in FILES:
        if name not in DOORS:
            below = {room(other) for other in ours(imports(name))} - {room(name), "__init__"}
            graph.setdefault(room(name), set()).update(below)
    TopologicalSorter(graph).prepare()  # CycleError


def test_modules_run_in_no_circle():
    graph = {
        name.removesuffix(".__init__"): ours(imports(name)) - {PACKAGE}
        for name in FILES
        if name not in DOORS
    }
    TopologicalSorter(graph).prepare()  # CycleError


def test_few_modules_stand_loose():
    loose = [path.name for path in (ROOT / PACKAGE).glob("*.py")]
    assert len(loose) <= 8, loose


def test_files_are_small_enough_to_hold_in_the_head():
    long = {name: path.read_text().count("\n") for name, path in FILES.items()}
    assert {name: lines for name, lines in long.items() if lines > 470} == {}


def test_the_build_document_names_every_room():
    text = (ROOT / "BUILD.md").read_text()
    rooms = {room(name) for name in FILES} - FRONT_DOOR.keys()
    assert [
        name
        for name in sorted(rooms)
        if not re.search(rf"`({PACKAGE}/|benchmarks/)?{name}(/|`|\.py`)", text)
    ] == []


# Rooms without a framework, and the modules that are exceptions in other rooms: lists, help,
# status and reports answer without loading TensorFlow.
FRAMEWORKS = {"tensorflow", "keras", "keras_cv", "tensorflow_datasets"}
WITH_FRAMEWORK = {
    "networks": {
        *("build", "condense", "factories", "imported", "layers"),
        *("keras_applications", "keras_layers", "keras_networks"),
    },
    "training": {
        *(
            "averages",
            "backend",
            "distillation",
            "graphs",
            "head",
            "initial",
            "jax_step",
            "keras_import",
            "loading",
            "mixing",
            "objective",
            "optimizers",
            "precision",
        ),
        *("repair", "start", "statistics", "step", "tasks", "trainer", "walk"),
    },
    "search": {"workers"},
    **{
        name: set()
        for name in ("config", "errors", "registry", "text", "device", "report", "__init__")
    },
}


@pytest.mark.parametrize("name", [name for name in FILES if room(name) in WITH_FRAMEWORK])
def test_these_rooms_know_no_framework(name):
    exceptions = WITH_FRAMEWORK[room(name)]
    assert name.rpartition(".")[2] in exceptions or not tops(name) & FRAMEWORKS


def test_flags_are_the_command_lines_matter():
    with_flags = {room(name) for name in FILES if tops(name) & {"absl", "argparse"}}
    assert with_flags == {"cli", "benchmarks", "studies"}


@pytest.mark.parametrize("name", [name for name in FILES if room(name) == "cli"])
def test_no_command_imports_another(name):
    """What two commands do belongs to `job` or to the room of the matter."""
    commands = {f"{PACKAGE}.cli.{command}" for command in COMMANDS}
    assert commands <= MODULES
    assert not (imports(name) & commands) - {name}


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
    assert not [name for name in reached if name.startswith(f"{prefix}.studies")]


@pytest.mark.parametrize("name", [name for name in FILES if room(name) != "studies"])
def test_the_wheel_needs_no_study(name):
    assert not [
        other for other in imports(name) if other.startswith(f"{PACKAGE}.benchmarks.studies")
    ]


def calls(name: str) -> set[str]:
    tree = ast.parse(FILES[name].read_text())
    names = {
        ast.unparse(node.func) if isinstance(node, ast.Call) else ast.unparse(node)
        for node in walk(tree)
        if isinstance(node, ast.Call | ast.Attribute)
    }
    imported = {
        f"{node.module}.{alias.name}"
        for node in walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return names | imported


LIBRARY = (
    "config",
    "errors",
    "registry",
    "text",
    "networks",
    "device",
    "data",
    "training",
    "search",
    "report",
    "job",
)


# Keras' own variable says where Keras keeps weights; to ask Keras would mean to import it. And
# Keras takes its backend from nothing else.
OF_KERAS = (
    f"{PACKAGE}.networks.pretrained.keras_networks",
    f"{PACKAGE}.training.keras_import",
)


@pytest.mark.parametrize(
    "name", [name for name in FILES if room(name) in LIBRARY and name not in OF_KERAS]
)
def test_the_library_reads_no_environment(name):
    assert not calls(name) & {"os.environ", "os.getenv"}


@pytest.mark.parametrize("name", [name for name in FILES if room(name) in ("networks", "device")])
def test_the_lower_rooms_print_nothing(name):
    assert "print" not in calls(name)
