"""A web package: a folder whose page shows the network's answers and measures its latency.

The page runs the network with LiteRT.js, whose files come from npm in pinned versions when the
folder is written. The folder is complete: any static server will do, and nothing else is asked of
the network.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from importlib.resources import files as resources
from pathlib import Path
from string import Template

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import files, inspect

from . import npm

VERSION = "2.5.3"
RUNTIME = f"LiteRT.js {VERSION}"
# Two of its builds, neither of which needs threads and with them special headers of the server:
# with relaxed SIMD, and without for older browsers.
BUILDS = ("litert_wasm_internal", "litert_wasm_compat_internal")
PACKAGES = (
    npm.Package(
        "@litertjs/core",
        VERSION,
        "sha512-PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWo"
        "yJQ==",
        ("dist/index.js", *(f"wasm/{name}.{kind}" for name in BUILDS for kind in ("js", "wasm"))),
    ),
    npm.Package(
        "@litertjs/wasm-utils",
        VERSION,
        "sha512-4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI"
        "1kQ==",
        ("dist/index.js",),
    ),
)
PAGE = ("index.html", "style.css", "page.js", "image.js", "latency.js", "mask.js", "network.js")
# Scale and zero point of an input that is the pixel, pixel - 128 or pixel / 128 - 1.
_INPUTS = {
    "UINT8": ((1 / 128,), (128,)),
    "INT8": ((1 / 128,), (0,)),
    "FLOAT32": ((), ()),
}

_README = """\
$name for the browser

Serve this folder with any static web server and open it, for example

    python -m http.server 8000

in it, then http://localhost:8000. (Opened as a file the page cannot start: browsers load no
modules from files.) The page shows $answer a picture or the camera's image, and
measures latency; the JSON that it offers is what `elite search --metric_table=...` takes.

From a phone: http://ADDRESS-OF-THIS-MACHINE:8000. The camera button needs https or localhost;
choosing a picture works everywhere, and on phones lets you take one.

The network is $file,
run by LiteRT.js on one thread of the processor. That build needs no special headers; threads would
need the server to send Cross-Origin-Opener-Policy and Cross-Origin-Embedder-Policy. Browsers
without relaxed SIMD get a slower build.

litert/: $runtime from npm, unchanged, Copyright Google LLC, Apache License 2.0
(https://www.apache.org/licenses/LICENSE-2.0).
"""


def write(
    model: bytes,
    *,
    name: str,
    file: str,
    labels: Sequence[str],
    out_dir: Path,
    crop_fraction: float = 1.0,
) -> int:
    """Writes the package; files of the same names are replaced.

    Args:
      model: content of a .tflite file whose input is the pixel (uint8), pixel - 128 (int8) or
        pixel / 128 - 1 (float32).
      name: of the network.
      file: what the .tflite file is called; the JSON of a measurement names it.
      labels: names of the classes, in the order of the logits.
      out_dir: gets ``index.html`` and the rest.
      crop_fraction: share of an image's shorter side that the network was tested on.

    Returns:
      Size of the .tflite file in bytes.

    Raises:
      UserError: the model is of another kind, or LiteRT.js cannot be fetched.
    """
    contents = inspect.read(model)
    side = inspect.image_side(contents)
    (image,), (logits,) = contents.inputs, contents.outputs
    if _INPUTS.get(image.type) != (image.scales, image.zero_points):
        raise UserError(f"the model's {image.type} input is not the pixel: export it again")
    if logits.type not in _INPUTS:
        raise UserError(f"the model gives {logits.type}: export it with int8, uint8 or float32")
    inspect.check_labels(contents, len(labels))
    masks = inspect.gives_masks(contents)
    described = {
        "name": name,
        "file": file,
        "bytes": len(model),
        "side": side,
        "masks": masks,
        "crop_fraction": crop_fraction,
        "input": {"type": image.type.lower()},
        "output": {
            "scale": logits.scales[0] if logits.scales else 0.0,
            "zero_point": logits.zero_points[0] if logits.zero_points else 0,
            "probabilities": inspect.ends_in_softmax(contents),
        },
        "runtime": RUNTIME,
        "labels": list(labels),
    }
    answer = "the class of each pixel of" if masks else "the likeliest classes of"
    readme = Template(_README).substitute(name=name, file=file, runtime=RUNTIME, answer=answer)
    written = {
        **runtime_files(),
        **page_files(PAGE),
        file: model,
        "model.json": json.dumps(described, indent=2, ensure_ascii=False).encode() + b"\n",
        "labels.txt": "".join(f"{label}\n" for label in labels).encode(),
        "README.txt": readme.encode(),
    }
    files.write({Path(out_dir, path): content for path, content in written.items()})
    return len(model)


def page_files(names: Sequence[str]) -> dict[str, bytes]:
    """The sources of pages, by name."""
    folder = resources(__package__) / "web_page"
    return {name: (folder / name).read_bytes() for name in names}


@functools.cache
def runtime_files() -> dict[str, bytes]:
    """LiteRT.js, by path in a package; UserError where it cannot be fetched."""
    core, utils = npm.fetch(PACKAGES)
    paths = ["litert/core.js", *(f"litert/{path}" for path in PACKAGES[0].files[1:])]
    return {**dict(zip(paths, core, strict=True)), "litert/wasm-utils.js": utils[0]}
