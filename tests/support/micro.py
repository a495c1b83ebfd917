"""Sources of the microcontroller package, compiled."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from efficientnet_elite.export.packages import micro

COMPILER = shutil.which("g++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no g++")
STRICT = ("-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror")


def compiled(source: str, include: Path, *objects: Path) -> Path:
    program = include.parent.with_suffix(".program")
    subprocess.run(
        [COMPILER, *STRICT, "-O1", f"-I{include}", "-xc++", "-", *objects, "-o", program],
        input=source,
        text=True,
        check=True,
    )
    return program


def output(program: Path, *arguments: object, given: bytes = b"") -> bytes:
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout


# What the library asks of TFLM, declared and nothing more.
TFLM = {
    "micro_mutable_op_resolver.h": """
        enum TfLiteStatus { kTfLiteOk, kTfLiteError };
        namespace tflite {
        template <unsigned int N> struct MicroMutableOpResolver {
          METHODS
        };
        }""",
    "micro_interpreter.h": """
        #include <cstddef>
        #include <cstdint>
        #include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
        struct TfLiteTensor { struct { int8_t* int8; } data; };
        namespace tflite {
        struct Model;
        struct MicroInterpreter {
          template <class R> MicroInterpreter(const Model*, const R&, uint8_t*, std::size_t) {}
          TfLiteStatus AllocateTensors();
          TfLiteStatus Invoke();
          TfLiteTensor* input(std::size_t);
          TfLiteTensor* output(std::size_t);
        };
        }""",
}


def check_syntax(source: Path, tmp_path: Path, *options: str) -> None:
    """Compiles against TFLM's interface; fails where the compiler has anything to say."""
    methods = "".join(
        f"TfLiteStatus {name}() {{ return kTfLiteOk; }}" for name in micro.METHODS.values()
    )
    for name, text in TFLM.items():
        path = tmp_path / "tensorflow/lite/micro" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#pragma once\n" + text.replace("METHODS", methods))
    header = tmp_path / "tensorflow/lite/schema/schema_generated.h"
    header.parent.mkdir(exist_ok=True)
    header.write_text(
        "#pragma once\nnamespace tflite { struct Model; const Model* GetModel(const void*); }\n"
    )
    command = [COMPILER, *STRICT, *options, f"-I{tmp_path}", "-fsyntax-only", source]
    subprocess.run(command, check=True)
