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

from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite import registry
from efficientnet_elite.cli import common, keras_model, tables
from efficientnet_elite.config import CALIBRATION_IMAGES
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import formats
from efficientnet_elite.export.int8 import choices
from efficientnet_elite.export.packages import targets
from efficientnet_elite.search.ledger import Ledger

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


# Flag to the field of `workdir.Settings` that it sets.
_SETTINGS = {
    "calibration_images": "calibration_images",
    "calibration": "method",
    "max_accuracy_drop": "max_accuracy_drop",
    "remedies": "remedies",
    "output": "output",
}
_FILE = {"model", "labels", "out"}
_PACKAGE = {"target", "accelerator"}
_IMAGES = {"base_resolution", "seed", *_DATA}
# Flags that make sense without images.
_WITHOUT_IMAGES = {*_FILE, *_PACKAGE, "input", "output", "formats", "io"}


def run(flags: Any, arguments: list[str]) -> None:
    """Exports, then prints a line a champion to stdout."""
    given = {name for name in flags if flags[name].present}
    if flags.target != "ethos-u":
        _refuse(given & {"accelerator"}, "belongs to --target=ethos-u")
    if flags.target:
        _refuse(given & {"layers"}, "shows what is exported without --target")
        if flags.output != "logits":
            raise UserError("packages take logits: leave --output=softmax out")
    if not flags.model:
        _refuse(given & _FILE, "belongs to --model")
        _refuse(given & {*_IMAGES, "input"}, "belongs to a .keras file")
        _export(flags, arguments)
        return
    common.no_arguments(arguments)
    if Path(flags.model).suffix == ".keras":
        if flags.dataset is None:
            _refuse(given - _WITHOUT_IMAGES, "needs images, which --dataset names")
        else:
            _refuse(given & {"labels"}, "names classes, which --dataset does")
        keras_model.run(flags)
        return
    if not flags.target:
        raise UserError("--model is a file already: say what to make of it with --target")
    _refuse(given - _FILE - _PACKAGE, "has no effect on a file that is packed as it is")
    model, labels, out = (
        Path(value).expanduser() if value else None
        for value in (flags.model, flags.labels, flags.out)
    )
    from efficientnet_elite.export.packages import packages

    package = packages.of_file(
        model, flags.target, labels=labels, out_dir=out, accelerator=flags.accelerator
    )
    tables.show_packages([package])


def _refuse(names: set[str], why: str) -> None:
    """UserError where a flag was given that would change nothing."""
    if names:
        raise UserError(f"--{min(names)} {why}: leave it out")


def _export(flags: Any, names: list[str]) -> None:
    """Exports champions of a search, or makes packages of them."""
    workdir = common.workdir(flags)
    with Ledger(workdir):
        pass  # whether there is one, before TensorFlow is waited for
    common.quiet_tensorflow()
    from efficientnet_elite.export import workdir as export_workdir
    from efficientnet_elite.export.packages import packages

    asked = {_SETTINGS[name]: flags[name].value for name in _SETTINGS if flags[name].present}
    asked |= {"names": names, "formats": formats.parse(flags.formats, flags.io)}
    if flags.target:
        tables.show_packages(
            packages.of_champions(workdir, flags.target, accelerator=flags.accelerator, **asked)
        )
        return
    export_workdir.export_champions(workdir, **asked)
    tables.show(export_workdir.read_sidecars(workdir), flags.layers)
