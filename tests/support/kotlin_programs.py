"""Compiles and runs Kotlin with the compiler that the package `kotlin-jupyter-kernel` contains."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

STUBS = Path(__file__).with_name("android_stubs")
_COMPILER = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"


def _jars(pattern: str) -> list[Path]:
    spec = importlib.util.find_spec("run_kotlin_kernel")
    folders = [] if spec is None else [Path(p) for p in spec.submodule_search_locations or ()]
    return [jar for folder in folders for jar in sorted(folder.glob(f"jars/{pattern}"))]


needs_kotlin = pytest.mark.skipif(
    not (shutil.which("java") and _jars("kotlin-jupyter-kernel-*-all.jar")),
    reason="no Java, or no Kotlin: pip install --no-deps kotlin-jupyter-kernel==0.19.0.944",
)


def _library() -> list[Path]:
    return _jars("kotlin-stdlib-*.jar")


def compile_all(sources: Iterable[Path], out: Path) -> None:
    """Compiles sources into a folder of classes; warnings are errors."""
    compiler = [*_jars("kotlin-jupyter-kernel-*-all.jar"), *_library()]
    java = ["java", "-XX:TieredStopAtLevel=1", "-cp", os.pathsep.join(map(str, compiler))]
    options = ["-no-stdlib", "-no-reflect", "-jvm-target=17", "-Werror"]
    path = ["-cp", os.pathsep.join(map(str, _library())), "-d", str(out)]
    done = subprocess.run(
        [*java, _COMPILER, *options, *path, *map(str, sources)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def run(
    classes: Path, main: str, *arguments: str | Path, given: bytes, resources: Path
) -> subprocess.CompletedProcess:
    """Runs a class with a main function."""
    path = os.pathsep.join(map(str, [classes, resources, *_library()]))
    command = ["java", "-XX:TieredStopAtLevel=1", "-cp", path, main, *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True)
