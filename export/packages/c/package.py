"""Writes packages of networks in C, see `docs/firmware.md`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from string import Template

from efficientnet_elite.export import files, inspect

from .. import golden
from .. import labels as labels_file
from ..names import identifier, plain
from ..targets import Source
from . import sources
from .program import Program, compiled

KERNELS = Path(__file__).with_name("kernels")

README = """\
# $name in C

- Compile `$net.c`, `${net}_weights.c` and the `nn_*.c` files of this folder as C99 or C++, with
  `-O2`, and link the mathematical library (`-lm`). Several networks share the `nn_*` files. With
  `-ffunction-sections -Wl,--gc-sections`, kernels that the network does not call take no memory.
- For a Cortex-M55, GCC makes vector code (Helium) with `-mcpu=cortex-m55 -mfloat-abi=hard`.
- Flash: $constants bytes of weights, biases, factors and tables, besides the code.
- RAM: an arena of $arena bytes, aligned to 8 bytes, which includes the input. Nothing else is
  allocated.

```c
#include "$net.h"

static union {
  double alignment;
  uint8_t bytes[${NET}_ARENA_BYTES];
} arena;

$usage
```

The result of every layer equals that of TensorFlow Lite Micro's reference kernels in every byte.
"""

GOLDEN = """
`golden/selftest.c` is a program that runs the network on the images of the header beside it,
compares every byte of the outputs and prints PASS or FAIL: `cc golden/selftest.c *.c -lm`.
"""

_CLASSIFY = """\
/* Returns the class, ${NET}_UNKNOWN or -1; ${net}_labels names the first two. */
int32_t classify(const uint8_t *$pixels, int32_t width, int32_t height) {
  float probabilities[${NET}_CLASSES];
  return ${net}_classify($pixels, width, height, $format, probabilities, &arena);
}"""
_FORMATS = {
    3: {"pixels": "rgb", "format": "NN_RGB888"},
    1: {"pixels": "grey", "format": "NN_GREY"},
}
_RUN = """\
void run(const int8_t *input, int8_t *output) { ${net}_run(input, output, &arena); }"""


@dataclass(frozen=True)
class Written:
    """Sizes of a written package in bytes: constants in flash memory, and the arena."""

    constant_bytes: int
    arena_bytes: int


def write_c_package(source: Source, images: golden.Golden | None = None) -> Written:
    """Writes the C package of a model that is int8 from input to output.

    Args:
      source: the model, and what is known of it.
      images: for the folder ``golden/``; None for no such folder.

    Raises:
      UserError: the model is not int8 throughout, contains an operator without a kernel, or has
        other outputs than labels. Nothing is written then.
    """
    name, labels = source.name, source.labels
    program = compiled(source.content)
    contents = inspect.read(source.content)
    classifier = None
    if inspect.takes_image(contents) and len(contents.outputs[0].shape) == 2:
        inspect.check_labels(contents, len(labels))
        classifier = {
            "labels": labels,
            "crop_fraction": source.crop_fraction,
            "confidence": source.confidence,
            "are_probabilities": inspect.gives_probabilities(contents),
        }
    texts = package_files(program, source.content, name, classifier)
    net = identifier(name)
    if source.accuracy:
        texts["README.md"] += f"\nAccuracy: {source.accuracy}\n"
    if images:
        texts["README.md"] += GOLDEN
        texts[f"golden/{net}_golden.h"] = golden.header(images, name, net)
        texts["golden/selftest.c"] = golden.c_test(name, net)
    contents_by_path = {source.folder / path: text.encode() for path, text in texts.items()}
    contents_by_path[source.folder / labels_file.FILE_NAME] = labels_file.file_content(labels)
    files.replace_all(contents_by_path)
    return Written(program.constant_bytes, program.arena_bytes)


def package_files(
    program: Program, model: bytes, name: str, classifier: dict | None = None
) -> dict[str, str]:
    """The files of a package by name, kernels included; see `sources.files`."""
    net = identifier(name)
    values = {
        "name": plain(name),
        "net": net,
        "NET": net.upper(),
        "constants": program.constant_bytes,
        "arena": program.arena_bytes,
    }
    usage = Template(_RUN).substitute(values)
    if classifier is not None:
        channels = program.graph.tensors[program.graph.input].shape[-1]
        usage = Template(_CLASSIFY).substitute(values, **_FORMATS[channels])
    return {
        **sources.files(program, name, hashlib.sha256(model).hexdigest(), classifier),
        **{
            path.name: path.read_text(encoding="utf-8")
            for path in sorted(KERNELS.glob("nn_*.[ch]"))
        },
        "README.md": Template(README).substitute(values, usage=usage),
    }
