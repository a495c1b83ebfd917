"""Exports the champions of a finished search to float32 and int8 TFLite, with labels.txt and a
JSON sidecar, and verifies them on the test part with LiteRT. Arguments name single champions.
With --target=micro it makes a C++11 library for TensorFlow Lite Micro of each (Arduino,
PlatformIO, or any build), with --target=android a .tflite file with metadata and Kotlin beside it;
with --target=web a folder whose page shows what the network makes of pictures and
measures latency in the browser; all also of a .tflite file; with --target=ethos-u what Vela
compiles for Arm's accelerator.
A .keras file is exported like a champion: it is loaded in safe mode by a process of its own, its
normalisation is absorbed into the first convolution, and --dataset names the images that choose
the int8 ranges and verify the files.

  elite export --workdir=runs/digits
  elite export --workdir=runs/digits elite9
  elite export --workdir=runs/digits --target=micro elite9
  elite export --model=net.int8.tflite --labels=labels.txt --target=micro --out=firmware/lib/net
  elite export --model=net.int8.tflite --target=web --out=site
  elite export --model=net.keras --dataset=folder:flowers
"""

from __future__ import annotations

from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common, tables
from efficientnet_elite.job import exporting

FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_string("workdir", None, "Directory of the search.", flag_values=FLAGS)
absl_flags.DEFINE_string(
    "model",
    None,
    "A .keras file; or, for --target, a .tflite file: int8, for Android uint8, for the web any.",
    flag_values=FLAGS,
)
absl_flags.register_multi_flags_validator(
    ["workdir", "model"],
    lambda both: bool(both["workdir"]) != bool(both["model"]),
    "name the search's --workdir or a file as --model",
    flag_values=FLAGS,
)
absl_flags.DEFINE_enum(
    "target",
    None,
    ["micro", "android", "ethos-u", "web"],
    "Make a package: for microcontrollers (needs `pip install --pre tflite-micro`), for Android, "
    "for an Ethos-U (needs Vela), or for browsers (needs npm, which fetches LiteRT.js).",
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "labels", None, "With --model: a line a class [labels.txt beside it].", flag_values=FLAGS
)
absl_flags.DEFINE_string(
    "out",
    None,
    "With --model: folder of the package [beside it, named like the target]; of a .keras file "
    "the folder that gets a folder of files and packages [export, beside it].",
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer(
    "calibration_images",
    200,
    "Training images that set the int8 ranges, in turn from all classes.",
    lower_bound=1,
    flag_values=FLAGS,
)
absl_flags.DEFINE_list(
    "formats",
    "float32,int8",
    "Files to make; float32 and int8 are always among them: float16, dynamic, int16x8.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_list(
    "io",
    "int8",
    "Input and output of int8 files, int8 always among them: uint8 (Android, browsers), float32.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_float(
    "max_accuracy_drop",
    None,
    "Refuse an int8 file that gets this many percentage points less of the test images right.",
    lower_bound=0,
    flag_values=FLAGS,
)
absl_flags.DEFINE_list(
    "remedies",
    "calibration,equalization",
    "What to try, in order, where int8 loses more than --max_accuracy_drop on the validation part: "
    "calibration, equalization, mixed (layers in float: not for microcontrollers), qat (training). "
    "Networks for masks have none.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_enum(
    "output",
    "logits",
    ["logits", "softmax"],
    "What the files give. In int8 softmax has steps of 1/256.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_enum(
    "calibration",
    "minmax",
    ["minmax", "moving_average", "percentile"],
    "How the calibration images' values become ranges, in int8 and int16x8.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "accelerator", "ethos-u55-128", "With --target=ethos-u: its configuration.", flag_values=FLAGS
)
absl_flags.DEFINE_enum(
    "input",
    None,
    ["0..255", "0..1", "-1..1", "elite"],
    "Of a .keras file: range of the pixels that it takes; elite: pixel / 128 - 1. Not needed where "
    "it begins with Rescaling or Normalization.",
    flag_values=FLAGS,
)
_DATA = absl_flags.FlagValues()
common.define_data(_DATA)
FLAGS.append_flag_values(_DATA)
absl_flags.DEFINE_integer(
    "base_resolution",
    None,
    "With --dataset: input side in pixels at resolution coefficient 1, for the centre crop [the "
    "model's side].",
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer("seed", 0, "With --dataset: of splits and choice.", flag_values=FLAGS)
absl_flags.DEFINE_integer(
    "layers",
    0,
    "Show so many operators of each int8 file that add most noise; all are in the sidecar.",
    lower_bound=0,
    flag_values=FLAGS,
)


def run(flags: Any, arguments: list[str]) -> None:
    """Exports or packs; prints a line for each network or package to stdout."""
    options = {name: flags[name].value for name in flags if flags[name].present}
    if flags.workdir:
        options["workdir"] = common.workdir(flags)
    if exporting.needs_tensorflow(arguments, options):
        common.quiet_tensorflow()
    result = exporting.export(arguments, options)
    if result.sidecars:
        tables.show(result.sidecars, flags.layers)
    if result.packages:
        tables.show_packages(result.packages)
