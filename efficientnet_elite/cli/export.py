"""Exports the champions of a finished search, or the networks that `elite train` has trained, to
float32 and int8 TFLite files, with a .keras file, labels.txt and a JSON sidecar, and verifies them
on the test part with LiteRT. Arguments name the networks to export; by default all are.

With --target it makes a package for a kind of device or app from each network, or from the .tflite
file that --model names.

With --model=FILE.keras it exports a Keras model like a champion. The file is loaded in safe mode in
a separate process, and its normalisation is folded into the first convolution. --dataset gives the
images for calibration and verification. A SavedModel folder goes the same way; --input says which
pixels it takes.

  elite export --workdir=runs/digits
  elite export --workdir=runs/digits elite9
  elite export --workdir=runs/trained --dataset=folder:moved
  elite export --workdir=runs/digits --target=micro elite9
  elite export --model=net.int8.tflite --labels=labels.txt --target=micro --out=firmware/lib/net
  elite export --model=net.int8.tflite --target=c --patches=auto --max_arena_kb=256
  elite export --model=net.int8.tflite --target=web --out=site
  elite export --model=net.keras --dataset=folder:flowers
"""

from __future__ import annotations

from typing import Any

from absl import flags as absl_flags

from efficientnet_elite import registry
from efficientnet_elite.cli import common, tables
from efficientnet_elite.config import AUTO, CALIBRATION_IMAGES
from efficientnet_elite.export import confidence, formats
from efficientnet_elite.export.int8 import choices
from efficientnet_elite.export.packages import targets
from efficientnet_elite.export.patches import request as patch_request
from efficientnet_elite.job import exporting

FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_string(
    "workdir", None, "Work directory of a search or of trainings.", flag_values=FLAGS
)
absl_flags.DEFINE_string(
    "model",
    None,
    "Keras file (.keras or .h5) or SavedModel folder to export; or, with --target, .tflite file to "
    "make a package of. Android needs a uint8 or float file, the web takes any, all other targets "
    "need int8.",
    flag_values=FLAGS,
)
absl_flags.register_multi_flags_validator(
    ["workdir", "model"],
    lambda both: bool(both["workdir"]) != bool(both["model"]),
    "name the --workdir of a search or training, or a file as --model",
    flag_values=FLAGS,
)
absl_flags.DEFINE_enum(
    "target",
    None,
    list(targets.TARGETS),
    f"Kind of device or app to make a package for. {targets.help_text()}.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "out",
    None,
    "With --model: folder to write to. For a .tflite file it becomes the package; by default it is "
    "named like the target and lies beside the file. For a .keras file it gets a subfolder with "
    "all files and packages; by default it is the folder export beside the file.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer(
    "calibration_images",
    CALIBRATION_IMAGES,
    "Number of training images in the representative data set, taken from each class in turn.",
    lower_bound=1,
    flag_values=FLAGS,
)
absl_flags.DEFINE_list(
    "formats",
    "float32,int8",
    f"Formats of weights to export, one or more of {', '.join(formats.WEIGHTS)}. float32 and int8 "
    "are always exported.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_list(
    "io",
    "int8",
    f"Types of input and output of int8 files, one or more of {', '.join(formats.INTERFACES)}. "
    "int8 is always exported. Android and browsers take uint8.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_float(
    "max_accuracy_drop",
    None,
    "Largest accuracy drop on the test part, in points (float32 minus int8 accuracy). Files beyond "
    "it are refused. By default every drop is accepted.",
    lower_bound=0,
    flag_values=FLAGS,
)
absl_flags.DEFINE_list(
    "remedies",
    ",".join(choices.default_remedies()),
    "Remedies to try, in this order, if the accuracy drop on the validation part exceeds "
    f"--max_accuracy_drop. {registry.described(choices.REMEDIES.values())}. There are none for "
    "segmentation.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_float(
    "unknown_precision",
    None,
    "Wanted share of right answers, such as 0.95. Answers that are not sure enough are then taken "
    "for unknown: the threshold is chosen on the validation part (docs/predict.md). By default "
    "there is none.",
    lower_bound=0,
    upper_bound=1,
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "unknown",
    None,
    "Folder of images of none of the classes, by which that threshold is chosen as well. Without "
    f"--unknown_precision, {confidence.PRECISION:g} is wanted.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_enum(
    "output",
    "logits",
    list(choices.OUTPUTS),
    "What the exported networks return. In int8, softmax has steps of 1/256.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_enum(
    "calibration",
    AUTO,
    list(choices.CALIBRATIONS),
    "How ranges of activations are found on the representative data set, for int8 and int16x8. "
    f"{registry.described(choices.CALIBRATION_METHODS.values())}; {AUTO}: the one of these whose "
    "int8 file computes most nearly what the float file does.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "accelerator",
    None,
    f"With --target=ethos-u: configuration of the accelerator, as Vela names it "
    f"[{targets.ACCELERATOR}]. With --target=micro: the accelerator that Vela compiles the network "
    "for; by default there is none.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "patches",
    patch_request.NONE,
    "Whether the first layers of the int8 file run patch by patch, so that a large image needs "
    "little memory: none, a grid of rows and columns such as 4x4, or auto, which chooses the grid "
    "and the layers that meet --max_arena_kb with the least additional work. What the network "
    "computes stays the same in every byte (docs/patches.md).",
    flag_values=FLAGS,
)
absl_flags.DEFINE_float(
    "max_arena_kb",
    None,
    "With --patches=auto: the most memory for activations in kB (of 1000 bytes), of the code that "
    "--target=c makes, otherwise of a package for TFLM.",
    flag_values=FLAGS,
)
common.define_input(FLAGS)
common.define_trust(FLAGS)
_DATA = absl_flags.FlagValues()
common.define_data(_DATA)
FLAGS.append_flag_values(_DATA)
common.define_size(
    "base_resolution",
    None,
    "With --dataset: side of the input image in pixels at resolution coefficient 1, which "
    "determines the centre crop. By default the input side of the model.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer(
    "seed",
    0,
    "With --dataset: random seed of the split into parts and of the choice of images.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer(
    "layers",
    0,
    "Number of operators of each int8 file to show, those that add most quantization noise first. "
    "The sidecar lists all.",
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
        tables.show_packages(result.packages, patches=not result.sidecars)
