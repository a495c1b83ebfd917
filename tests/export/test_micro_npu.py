"""The microcontroller package of a model that Vela has compiled for an Ethos-U."""

from __future__ import annotations

import re

import numpy as np
import pytest

from efficientnet_elite import cli
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.export.packages import ethos_u, micro_npu
from efficientnet_elite.export.packages.c import graph as graphs
from efficientnet_elite.export.runtimes import tflm
from tests.support import random_tflite
from tests.support.micro import linked, needs_compiler, output

pytest.importorskip("ethosu", reason="pip install ethos-u-vela")
pytest.importorskip("tflite_micro", reason="pip install --pre tflite-micro")

MAIN = """
#include <cstdio>
#include "net_net_operators.h"
#include "net_net_model.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"
namespace tflite {
MicroAllocator* MicroAllocator::Create(unsigned char*, std::size_t) { return nullptr; }
const Model* GetModel(const void*) { return nullptr; }
TfLiteStatus MicroInterpreter::AllocateTensors() { return kTfLiteError; }
TfLiteStatus MicroInterpreter::Invoke() { return kTfLiteError; }
TfLiteTensor* MicroInterpreter::input(std::size_t) { return nullptr; }
TfLiteTensor* MicroInterpreter::output(std::size_t) { return nullptr; }
}
int main() {
  net_net::OpResolver resolver;
  const bool registered = resolver.Register();
  std::printf("%d %u\\n", registered, resolver.count);
  std::fwrite(net_net::kModel, 1, net_net::kModelBytes, stdout);
}
"""


def network(stride: int) -> bytes:
    """Two convolutions; an Ethos-U55 lacks the second one if its stride is above 3."""
    network = random_tflite.Network(np.random.default_rng(0), 32, 32)
    x = network.conv(network.image, 8, (3, 3), (1, 1), random_tflite.SAME)
    x = network.conv(x, 8, (3, 3), (stride, stride), random_tflite.SAME)
    return network.model(network.head(x))


@needs_compiler
@pytest.mark.parametrize("whole", [True, False])
def test_the_package_registers_the_accelerator_s_operator(tmp_path, capsys, whole):
    model = network(2 if whole else 5)
    path = tmp_path / "net.int8.tflite"
    path.write_bytes(model)
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    call = ["export", f"--model={path}", "--target=micro", "--input=elite"]
    call.append("--accelerator=ethos-u55-128")
    stale = tmp_path / "micro/net_net/golden/selftest.cpp"  # of a package for the processor alone
    stale.parent.mkdir(parents=True)
    stale.touch()
    assert cli.main(call) == 0
    assert "M cycles" in capsys.readouterr().out
    package = tmp_path / "micro" / "net_net"
    assert not list((package / "golden").iterdir())
    given = output(linked(MAIN, package, tmp_path))
    line, _, array = given.partition(b"\n")
    assert line == (b"1 0" if whole else b"1 1")  # registered; the stand-in counts no custom ones
    expected, report = ethos_u.compile_model(model, "ethos-u55-128", memory_mode="Shared_Sram")
    assert array == expected
    source = (package / "src/net_net_operators.cpp").read_text()
    assert "resolver.AddEthosU() == kTfLiteOk" in source
    assert ("resolver.AddConv2D() == kTfLiteOk" in source) is not whole
    readme = (package / "README.md").read_text()
    assert f"{report.cycles:,.0f} cycles" in readme and "CO_PROCESSOR=ethos_u" in readme
    assert re.search(r"Left to the processor: (.*)\.", readme)[1].startswith(
        "nothing" if whole else "t"
    )


def test_the_arena_holds_what_vela_planned():
    model = network(2)
    found = micro_npu.compiled(model, graphs.read(model), "ethos-u55-64")
    planned = micro_npu.planned_bytes(found.content)
    # The scratch tensor, of which input and output are parts, is all that lies in SRAM.
    (step,) = inspect.read(found.content).steps
    sizes = [inspect.read(found.content).tensors[index].shape for index in step.inputs]
    assert planned == max(shape[0] for shape in sizes[2:4]) == found.report.sram_bytes
    assert found.persistent_bytes == tflm.allocation(model).tail
    assert found.arena_bytes % 16 == 0
    assert 0 <= found.arena_bytes - planned - found.persistent_bytes < 16


def test_what_the_accelerator_cannot_run_is_refused():
    network = random_tflite.Network(np.random.default_rng(0), 32, 32)
    x = network.conv(network.image, 4, (3, 3), (5, 5), random_tflite.SAME)
    model = network.model(x)
    with pytest.raises(UserError, match="ethos-u55-32 can run no operator of the model"):
        micro_npu.compiled(model, graphs.read(model), "ethos-u55-32")
    with pytest.raises(UserError, match="there is no accelerator 'x'"):
        micro_npu.compiled(model, graphs.read(model), "x")
