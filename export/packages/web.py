"""Writes web packages: a folder with a page that runs the network in the browser.

The page shows the network's predictions for a picture or the camera, and measures the latency. It
runs the network with LiteRT.js; pinned versions of its files are downloaded with npm when the
package is written. The folder is complete: any static web server can serve it, and the page loads
nothing from elsewhere.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files as resources
from pathlib import Path
from string import Template

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import files, inspect
from efficientnet_elite.export.confidence import Confidence
from efficientnet_elite.export.pixel_rule import ELITE, PixelRule, check_takes_pixels

from . import labels as labels_file
from . import npm

VERSION = "2.5.3"
RUNTIME = f"LiteRT.js {VERSION}"
# Two builds of LiteRT.js: one with relaxed SIMD, and one for browsers without it. Both use a single
# thread: builds with threads would need a server that sends special headers.
BUILDS = ("litert_wasm_internal", "litert_wasm_compat_internal")
PACKAGES = (
    npm.NpmPackage(
        "@litertjs/core",
        VERSION,
        "sha512-PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWo"
        "yJQ==",
        ("dist/index.js", *(f"wasm/{name}.{kind}" for name in BUILDS for kind in ("js", "wasm"))),
    ),
    npm.NpmPackage(
        "@litertjs/wasm-utils",
        VERSION,
        "sha512-4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI"
        "1kQ==",
        ("dist/index.js",),
    ),
)
PAGE = (
    "index.html",
    "style.css",
    "page.js",
    "classify.js",
    "image.js",
    "latency.js",
    "mask.js",
    "network.js",
)
_TYPES = ("UINT8", "INT8", "FLOAT32")

_README = """\
$name for the browser

Serve this folder with any static web server. For example, run this command in the folder

    python -m http.server 8000

and open http://localhost:8000. (The page does not work when you open index.html as a file, because
browsers do not load JavaScript modules from files.) The page shows $prediction
a picture or the camera's image, and measures the latency. You can pass the JSON file that it offers
for download to `elite search --metric_table=...`.

On a phone, open http://ADDRESS-OF-THIS-MACHINE:8000. Browsers allow the camera button only on pages
served over https or from localhost. Choosing a picture works everywhere; on a phone you can also
take one.

The network is $file.
LiteRT.js runs it on one thread of the processor. The single-threaded build works with any server;
threads would need a server that sends the headers Cross-Origin-Opener-Policy and
Cross-Origin-Embedder-Policy. Browsers without relaxed SIMD use a slower build.

The folder litert/ contains $runtime, downloaded from npm and unchanged,
Copyright Google LLC, Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0).
"""


def write_web_package(
    model: bytes,
    *,
    name: str,
    file: str,
    labels: Sequence[str],
    out_dir: Path,
    crop_fraction: float = 1.0,
    rule: PixelRule = ELITE,
    confidence: Confidence | None = None,
) -> int:
    """Writes a web package: a page, its scripts, LiteRT.js, the network and a README.

    Args:
      model: content of a .tflite file. Its input (1, height, width, 3 or 1) is pixel (uint8),
        pixel - 128 (int8) or what `rule` makes of the pixel (float32). Its output is (1, classes),
        or (1, height, width, classes) for a segmentation network.
      name: name of the network.
      file: name of the .tflite file in the package; the JSON file of a measurement contains it.
      labels: names of the classes, in the order of the logits.
      out_dir: folder of the package. Existing files of the same names are replaced.
      crop_fraction: sides of the centre crop that the network was tested on, as a fraction (0..1)
        of the largest with the input's aspect ratio. The page crops pictures to it.
      rule: which numbers the network takes for pixels.
      confidence: how a classifier's probabilities are made, and when an answer is unknown; None for
        the softmax of the logits, and an answer always.

    Returns:
      Size of the .tflite file in bytes.

    Raises:
      UserError: the model has another input or output, or LiteRT.js cannot be downloaded.
    """
    contents = inspect.read(model)
    height, width, channels = inspect.image_shape(contents)
    (image,), (logits,) = contents.inputs, contents.outputs
    for verb, tensor in (("takes", image), ("gives", logits)):
        if tensor.type not in _TYPES:
            raise UserError(
                f"the model {verb} {tensor.type}: export it with int8, uint8 or float32"
            )
    if image.type != "FLOAT32":
        check_takes_pixels(image, rule)
    inspect.check_labels(contents, len(labels))
    masks = inspect.gives_masks(contents)
    description = {
        "name": name,
        "file": file,
        "bytes": len(model),
        # Pages of earlier packages read the side of a square.
        **({"side": height} if height == width else {}),
        "height": height,
        "width": width,
        "channels": channels,
        "masks": masks,
        "crop_fraction": crop_fraction,
        "input": {"type": image.type.lower(), "scale": rule.scale, "offset": rule.offset},
        "output": {
            "scale": logits.scales[0] if logits.scales else 0.0,
            "zero_point": logits.zero_points[0] if logits.zero_points else 0,
            "probabilities": inspect.gives_probabilities(contents),
        },
        "confidence": asdict(confidence or Confidence()),
        "runtime": RUNTIME,
        "labels": list(labels),
    }
    prediction = "the class of each pixel of" if masks else "the most likely classes of"
    readme = Template(_README).substitute(
        name=name, file=file, runtime=RUNTIME, prediction=prediction
    )
    contents_by_path = {
        **runtime_files(),
        **page_files(PAGE),
        file: model,
        "model.json": json.dumps(description, indent=2, ensure_ascii=False).encode() + b"\n",
        labels_file.FILE_NAME: labels_file.file_content(labels),
        "README.txt": readme.encode(),
    }
    files.replace_all({Path(out_dir, path): content for path, content in contents_by_path.items()})
    return len(model)


def page_files(names: Sequence[str]) -> dict[str, bytes]:
    """Returns the contents of files of the folder ``web_page``, by name."""
    folder = resources(__package__) / "web_page"
    return {name: (folder / name).read_bytes() for name in names}


@functools.cache
def runtime_files() -> dict[str, bytes]:
    """Returns the files of LiteRT.js, by path in a web package; downloads them once per process.

    Raises:
      UserError: they cannot be downloaded.
    """
    core, utils = npm.fetch_packages(PACKAGES)
    paths = ["litert/core.js", *(f"litert/{path}" for path in PACKAGES[0].files[1:])]
    return {**dict(zip(paths, core, strict=True)), "litert/wasm-utils.js": utils[0]}
