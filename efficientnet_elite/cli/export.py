"""Exports the champions of a finished search to float32 and int8 TFLite files, with labels.txt and
a JSON sidecar, and verifies them on the test part with LiteRT. Arguments name single champions.

With --target it makes a package for a kind of device or app of each, or of a .tflite file.

A .keras file is exported like a champion. It is loaded in safe mode by a process of its own, and
its normalisation is absorbed into the first convolution. --dataset names the images for calibration
and verification.

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

from efficientnet_elite import registry
from efficientnet_elite.cli import common, tables
from efficientnet_elite.config import CALIBRATION_IMAGES
from efficientnet_elite.export import formats
from efficientnet_elite.export.int8 import choices
from efficientnet_elite.export.packages import targets
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
    list(targets.TARGETS),
    f"Make a package. {targets.help_text()}.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "labels",
    None,
    "With --model: file with a line for each class; by default labels.txt beside the model.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "out",
    None,
    "With --model: folder of the package, by default one beside the file that is named like the "
    "target. With a .keras file: folder that gets a folder of files and packages, by default "
    "export beside it.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer(
    "calibration_images",
    CALIBRATION_IMAGES,
    "Size of the representative data set: training images, in turn from all classes.",
    lower_bound=1,
    flag_values=FLAGS,
)
absl_flags.DEFINE_list(
    "formats",
    "float32,int8",
    f"Files to make: some of {', '.join(formats.WEIGHTS)}; float32 and int8 are always among them.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_list(
    "io",
    "int8",
    f"Types of input and output of int8 files: some of {', '.join(formats.INTERFACES)}; int8 is "
    "always among them. Android and browsers take uint8.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_float(
    "max_accuracy_drop",
    None,
    "Refuse an int8 file whose accuracy on the test part is more than this many points below that "
    "of float32.",
    lower_bound=0,
    flag_values=FLAGS,
)
absl_flags.DEFINE_list(
    "remedies",
    ",".join(choices.default_remedies()),
    "What to try, in this order, where the int8 accuracy on the validation part drops by more than "
    f"--max_accuracy_drop. {registry.described(choices.REMEDIES.values())}. Networks for masks "
    "have none.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_enum(
    "output",
    "logits",
    list(choices.OUTPUTS),
    "What the networks end with. In int8 softmax has steps of 1/256.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_enum(
    "calibration",
    "minmax",
    list(choices.CALIBRATION_METHODS),
    "How the representative data set chooses ranges of activations, in int8 and int16x8. "
    f"{registry.described(choices.CALIBRATION_METHODS.values())}.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "accelerator",
    targets.ACCELERATOR,
    "With --target=ethos-u: its configuration.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_enum(
    "input",
    None,
    list(choices.INPUTS),
    "Range of the pixels that a .keras file takes; elite: pixel / 128 - 1. Not needed where the "
    "network begins with Rescaling or Normalization.",
    flag_values=FLAGS,
)
_DATA = absl_flags.FlagValues()
common.define_data(_DATA)
FLAGS.append_flag_values(_DATA)
absl_flags.DEFINE_integer(
    "base_resolution",
    None,
    "With --dataset: input side in pixels at resolution coefficient 1, which sets the centre crop; "
    "by default the model's own.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer(
    "seed", 0, "With --dataset: seed of the splits and of the choice of images.", flag_values=FLAGS
)
absl_flags.DEFINE_integer(
    "layers",
    0,
    "Show this many operators of each int8 file, those that add most noise; the sidecar has all.",
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
