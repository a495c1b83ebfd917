"""Exports the champions of a finished search to float32 and int8 TFLite, with labels.txt and a
JSON sidecar, and verifies them on the test part with LiteRT. Arguments name single champions.
With --target=micro it makes a C++11 library for TensorFlow Lite Micro of each (Arduino,
PlatformIO, or any build), with --target=android a .tflite file with metadata and Kotlin beside it;
both also of a .tflite file.

  elite export --workdir=runs/digits
  elite export --workdir=runs/digits elite9
  elite export --workdir=runs/digits --target=micro elite9
  elite export --model=net.int8.tflite --labels=labels.txt --target=micro --out=firmware/lib/net
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.errors import UserError

FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_string("workdir", None, "Directory of the search.", flag_values=FLAGS)
absl_flags.DEFINE_string(
    "model", None, "A .tflite file, for --target: int8, or for Android uint8.", flag_values=FLAGS
)
absl_flags.mark_flags_as_mutual_exclusive(["workdir", "model"], required=True, flag_values=FLAGS)
absl_flags.DEFINE_enum(
    "target",
    None,
    ["micro", "android"],
    "Make a package: for microcontrollers (needs `pip install --pre tflite-micro`) or for Android.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "labels", None, "With --model: a line a class [labels.txt beside it].", flag_values=FLAGS
)
absl_flags.DEFINE_string(
    "out",
    None,
    "With --model: folder of the package [beside it, named like the target].",
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
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer(
    "layers",
    0,
    "Show so many operators of each int8 file that add most noise; all are in the sidecar.",
    lower_bound=0,
    flag_values=FLAGS,
)


def run(flags: Any, arguments: list[str]) -> None:
    """Exports, then prints a line a champion to stdout."""
    if flags.model:
        common.no_arguments(arguments)
        if not flags.target:
            raise UserError("--model is a file already: say what to make of it with --target")
    elif flags.labels or flags.out:
        raise UserError("--labels and --out belong to --model")
    if flags.target:
        _packages(flags, arguments)
        return
    common.quiet_tensorflow()
    from efficientnet_elite.export import formats
    from efficientnet_elite.export import workdir as export_workdir

    workdir = common.workdir(flags)
    export_workdir.export_champions(
        workdir,
        names=arguments,
        calibration_images=flags.calibration_images,
        max_accuracy_drop=flags.max_accuracy_drop,
        formats=formats.parse(flags.formats, flags.io),
    )
    sidecars = export_workdir.read_sidecars(workdir)
    print(common.exported_table(sidecars), end="")
    if flags.layers:
        print("\n" + common.table(_layers(sidecars, flags.layers)), end="")


def _layers(sidecars: list[dict[str, Any]], count: int) -> list[list[str]]:
    cells = [["champion", "layer", "operator", "SNR", "noise added"]]
    for sidecar in sidecars:
        worst = sorted(sidecar["int8_layers"], key=lambda error: -error["added_noise"])
        for error in worst[:count]:
            figures = f"{error['snr_db']:.1f} dB", f"{error['added_noise']:.3%}"
            cells.append([sidecar["name"], error["layer"], error["operator"], *figures])
    return cells


def _packages(flags: Any, names: list[str]) -> None:
    from efficientnet_elite.export import packages

    if flags.model:
        labels, out = (
            Path(value).expanduser() if value else None for value in (flags.labels, flags.out)
        )
        model = Path(flags.model).expanduser()
        made = [packages.of_file(model, flags.target, labels=labels, out_dir=out)]
    else:
        common.quiet_tensorflow()
        made = packages.of_champions(common.workdir(flags), flags.target, names=names)
    cells = [["network", "model", "arena", "package"]]
    for package in made:
        arena = f"{package.arena_bytes / 1000:.1f} kB" if package.arena_bytes else ""
        size = f"{package.model_bytes / 1000:.1f} kB"
        cells.append([package.name, size, arena, str(package.folder)])
    print(common.table(cells), end="")
