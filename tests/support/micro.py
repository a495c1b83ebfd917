"""Sources of the microcontroller package, compiled."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from efficientnet_elite.export.packages.micro_operators import METHODS

COMPILER = shutil.which("g++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no g++")
STRICT = (
    "-std=c++17",
    "-DTF_LITE_STATIC_MEMORY",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wshadow",
    "-Werror",
)


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


# What the library asks of TFLM, declared and nothing more; a program defines what it calls.
TFLM = {
    "micro/kernels/kernel_util.h": """
        #include <cstdint>
        enum TfLiteStatus { kTfLiteOk, kTfLiteError };
        enum TfLiteType { kTfLiteFloat32 = 1, kTfLiteInt8 = 9 };
        struct TfLiteIntArray { int size; int data[4]; };
        struct TfLiteEvalTensor {
          union { int8_t* int8; int32_t* i32; } data;
          TfLiteIntArray* dims;
          TfLiteType type;
        };
        struct TfLiteContext {};
        struct TfLiteNode { void* user_data; TfLiteEvalTensor *inputs[2], *output; };
        namespace tflite { namespace micro {
        inline const TfLiteEvalTensor* GetEvalInput(const TfLiteContext*, const TfLiteNode* node,
                                                    int i) { return node->inputs[i]; }
        inline TfLiteEvalTensor* GetEvalOutput(const TfLiteContext*, const TfLiteNode* node, int) {
          return node->output;
        }
        } }""",
    "micro/kernels/logistic.h": """
        namespace tflite {
        struct OpDataLogistic {
          int32_t input_zero_point, input_range_radius, input_multiplier;
          int input_left_shift;
        };
        }""",
    "micro/kernels/reduce.h": """
        namespace tflite {
        struct OpDataReduce { int32_t multiplier; int shift; int input_zp, output_zp; };
        }""",
    "micro/kernels/mul.h": """
        namespace tflite {
        struct OpDataMul {
          int32_t input1_zero_point, input2_zero_point, output_activation_min,
              output_activation_max, output_zero_point, output_multiplier;
          int output_shift;
        };
        }""",
    "micro/micro_mutable_op_resolver.h": """
        #include "tensorflow/lite/micro/kernels/kernel_util.h"
        struct TFLMRegistration {
          TfLiteStatus (*invoke)(TfLiteContext*, TfLiteNode*);
          int32_t builtin_code;
        };
        namespace tflite {
        enum BuiltinOperator { OPERATORS };
        struct MicroOpResolver {
          virtual const TFLMRegistration* FindOp(BuiltinOperator) const = 0;
          virtual const TFLMRegistration* FindOp(const char*) const = 0;
          virtual ~MicroOpResolver() {}
        };
        template <unsigned int N> struct MicroMutableOpResolver : MicroOpResolver {
          TFLMRegistration registrations[N];
          unsigned int count = 0;
          const TFLMRegistration* FindOp(BuiltinOperator op) const override {
            for (unsigned int i = 0; i < count; ++i) {
              if (registrations[i].builtin_code == op) return &registrations[i];
            }
            return nullptr;
          }
          const TFLMRegistration* FindOp(const char*) const override { return nullptr; }
          static TfLiteStatus Fail(TfLiteContext*, TfLiteNode*) { return kTfLiteError; }
          TfLiteStatus Add(BuiltinOperator op) {
            if (count == N || FindOp(op) != nullptr) return kTfLiteError;
            registrations[count++] = {Fail, op};
            return kTfLiteOk;
          }
          METHODS
          TfLiteStatus AddEthosU() { return kTfLiteOk; }  // as TFLM without Arm's driver
        };
        }""",
    "micro/micro_allocator.h": """
        #include <cstddef>
        #include <cstdint>
        namespace tflite {
        struct MicroAllocator { static MicroAllocator* Create(uint8_t*, std::size_t); };
        }""",
    "micro/micro_interpreter.h": """
        #include "tensorflow/lite/micro/micro_allocator.h"
        #include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
        struct TfLiteTensor { struct { int8_t* int8; } data; };
        namespace tflite {
        struct Model;
        struct MicroInterpreter {
          MicroInterpreter(const Model*, const MicroOpResolver&, MicroAllocator*) {}
          TfLiteStatus AllocateTensors();
          TfLiteStatus Invoke();
          TfLiteTensor* input(std::size_t);
          TfLiteTensor* output(std::size_t);
          std::size_t arena_used_bytes() const { return 77; }
        };
        }""",
    "micro/system_setup.h": "namespace tflite { void InitializeTarget(); }",
    "schema/schema_generated.h": """
        namespace tflite { struct Model; const Model* GetModel(const void*); }""",
}


def write_tflm(folder: Path) -> None:
    """Writes stand-ins of TFLM's headers into a folder for the include path."""
    methods = "".join(
        f"TfLiteStatus {method}() {{ return Add(BuiltinOperator_{name}); }}"
        for name, method in METHODS.items()
    )
    operators = ", ".join(f"BuiltinOperator_{name}" for name in METHODS)
    for name, text in TFLM.items():
        path = folder / "tensorflow/lite" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = text.replace("METHODS", methods).replace("OPERATORS", operators)
        path.write_text(f"#pragma once\n{text}\n")


def check_syntax(source: Path, tmp_path: Path, *options: str) -> None:
    """Compiles against TFLM's interface; fails where the compiler has anything to say."""
    write_tflm(tmp_path)
    command = [COMPILER, *STRICT, *options, f"-I{tmp_path}", "-fsyntax-only", source]
    subprocess.run(command, check=True)


def linked(main: str, package: Path, tmp_path: Path, *, files: str = "*.c*") -> Path:
    """Compiles a program with files of a package and stand-ins of TFLM's headers."""
    write_tflm(tmp_path)
    source, program = tmp_path / "main.cpp", tmp_path / "program"
    source.write_text(main)
    folders = [f"-I{tmp_path}", f"-I{package / 'src'}"]
    sources = [source, *sorted((package / "src").glob(files))]
    # The C files are compiled as C++, which they are as well.
    command = [COMPILER, *STRICT, "-O1", *folders, "-xc++", *sources, "-o", program]
    subprocess.run(command, check=True)
    return program
