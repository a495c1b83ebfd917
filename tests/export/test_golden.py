"""Golden images of packages: the self-tests are compiled and run, here and emulated."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from efficientnet_elite.export.packages import golden, packages
from efficientnet_elite.export.runtimes import compiled_c, tflm
from tests.support import tiny_tflite
from tests.support.c_programs import STRICT, needs_compiler, needs_emulator
from tests.support.micro import check_syntax

# The memory of the board, and a main program over semihosting.
STARTUP = """
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
extern uint8_t __data_load[], __data_start[], __data_end[], __bss_start[], __bss_end[];
extern uint8_t __stack_top[], __stack_limit[];
extern void initialise_monitor_handles(void);
extern int main(void);
void start(void);
void start(void) {
  memcpy(__data_start, __data_load, (size_t)(__data_end - __data_start));
  memset(__bss_start, 0, (size_t)(__bss_end - __bss_start));
  initialise_monitor_handles();
  exit(main());
}
__attribute__((section(".vectors"), used)) static void *const vectors[] = {__stack_top, start};
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    path = folder / "net-1.int8.tflite"
    path.write_bytes(tiny_tflite.pair()[1])
    (folder / "labels.txt").write_text("".join(f"{i}\n" for i in range(10)))
    return path


@pytest.fixture(scope="module")
def package(model) -> Path:
    return packages.of_file(model, "c").folder


@needs_compiler
def test_the_self_test_passes_and_notices_a_wrong_output(package, tmp_path):
    program = tmp_path / "selftest"
    sources = [package / "golden/selftest.c", *sorted(package.glob("*.c"))]
    command = ["gcc", "-std=c99", *STRICT, "-O1", *sources, "-o", program, "-lm"]
    subprocess.run(command, check=True)
    done = subprocess.run([program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "PASS net-1: 3 images\n")
    header = package / "golden/net_net_1_golden.h"
    text = header.read_text()
    before, name, outputs = text.partition("golden_outputs")
    first = outputs[outputs.index("{\n     ") + 7 :].split(",")[0]
    other = str(int(first) - 9 if int(first) > 0 else int(first) + 9)
    header.write_text(
        before + name + outputs.replace(f"{{\n     {first},", f"{{\n     {other},", 1)
    )
    subprocess.run(command, check=True)
    done = subprocess.run([program], capture_output=True, text=True)
    header.write_text(text)
    assert done.returncode == 1 and done.stdout == "FAIL net-1: outputs differ by up to 9 steps\n"


@needs_compiler
@needs_emulator
def test_an_emulated_processor_passes(package, tmp_path):
    (tmp_path / "startup.c").write_text(STARTUP)
    board, program = compiled_c.CORTEX_M4, tmp_path / "selftest"
    compiler = [option for option in board.compiler if option not in ("-std=c99", "-pedantic")]
    libraries = ["--specs=rdimon.specs" if "specs" in o else o for o in board.libraries]
    libraries.append("-Wl,--defsym=end=__bss_end")
    sources = [tmp_path / "startup.c", package / "golden/selftest.c", *sorted(package.glob("*.c"))]
    subprocess.run([*compiler, *sources, *libraries, "-o", program], check=True)
    done = subprocess.run([*board.command, program], capture_output=True, text=True, timeout=300)
    assert "PASS net-1: 3 images" in done.stdout + done.stderr


@pytest.mark.skipif(not tflm.available(), reason="pip install --pre tflite-micro")
@needs_compiler
def test_the_package_for_tflm_has_one(model, tmp_path):
    folder = packages.of_file(model, "micro").folder
    assert folder == model.parent / "micro/net_net_1"  # two networks do not collide
    check_syntax(folder / "golden/selftest.cpp", tmp_path, f"-I{folder / 'src'}")
    assert "selftest" in (folder / "README.md").read_text()


def test_images_are_those_of_the_test_part(model, tmp_path, monkeypatch):
    side = tiny_tflite.SIDE
    copies = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)

    class Stored:
        part = np.array(["validation", "test", "test"])
        shown = np.array([0, 1, 2])

    Stored.copies = copies
    monkeypatch.setattr(golden.predictions, "read", lambda folder: Stored)
    found = golden.of_model(model.read_bytes(), tmp_path)
    np.testing.assert_array_equal(found.images, copies[1:])
    assert found.outputs.shape == (2, 10)


def test_the_accuracy_is_that_of_reference_arithmetic():
    known = {"images": 50, "accuracy": 0.9, "xnnpack_accuracy": 0.92, "agreement": 0.98}
    sentence = golden.accuracy_sentence({"verification": {"reference_kernels": known}})
    assert sentence.startswith("90.00% of 50 test images") and "92.00% with XNNPACK" in sentence
    assert golden.accuracy_sentence({}) == ""
