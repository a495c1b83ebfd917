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

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common, keras_model
from efficientnet_elite.errors import UserError
from efficientnet_elite.ledger import Ledger

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
common.define_data(FLAGS)
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
    """Exports, then prints a line a champion to stdout."""
    if flags.model:
        common.no_arguments(arguments)
        if Path(flags.model).suffix == ".keras":
            keras_model.run(flags)
            return
        if not flags.target:
            raise UserError("--model is a file already: say what to make of it with --target")
    elif flags.labels or flags.out:
        raise UserError("--labels and --out belong to --model")
    if flags.dataset or flags.input:
        raise UserError("--dataset and --input belong to a .keras file")
    if flags.target:
        if flags.output != "logits":
            raise UserError("packages take logits: leave --output=softmax out")
        _packages(flags, arguments)
        return
    with Ledger(common.workdir(flags)):
        pass  # whether there is one, before TensorFlow is waited for
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
        remedies=flags.remedies if flags["remedies"].present else None,
        output=flags.output,
        method=flags.calibration,
    )
    sidecars = export_workdir.read_sidecars(workdir)
    print(common.exported_table(sidecars), end="")
    if cells := _class_ious(sidecars):
        print("\n" + common.table(cells), end="")
    if cells := _remedies(sidecars):
        print("\n" + common.table(cells), end="")
    if flags.layers:
        print("\n" + common.table(_layers(sidecars, flags.layers)), end="")


def _class_ious(sidecars: list[dict[str, Any]]) -> list[list[str]]:
    """Each class's intersection over union in the int8 files of segmentation networks."""
    cells = []
    for sidecar in sidecars:
        if shares := sidecar["verification"].get("int8_class_iou"):
            cells.append(
                [sidecar["name"], *("-" if share is None else f"{share:.2%}" for share in shares)]
            )
    return [["int8 IoU", *sidecars[0]["labels"]], *cells] if cells else []


def _remedies(sidecars: list[dict[str, Any]]) -> list[list[str]]:
    """What each trial came to, for the champions that plain int8 would have cost too much."""
    cells = [["champion", "int8 (validation part)", "accuracy", "gained", ""]]
    for sidecar in sidecars:
        record = sidecar.get("int8_remedies") or {"attempts": []}
        for attempt in record["attempts"] if len(record["attempts"]) > 1 else []:
            right, gained = attempt["accuracy"], attempt["gained"]
            cells.append(
                [
                    sidecar["name"],
                    attempt["trial"],
                    "failed" if right is None else f"{right:.2%}",
                    "" if gained is None else f"{gained:+.2f}",
                    "taken" if attempt["trial"] == record["taken"] else attempt["fault"] or "",
                ]
            )
    return cells if len(cells) > 1 else []


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
        made = [
            packages.of_file(
                model, flags.target, labels=labels, out_dir=out, accelerator=flags.accelerator
            )
        ]
    else:
        common.quiet_tensorflow()
        made = packages.of_champions(
            common.workdir(flags), flags.target, names=names, accelerator=flags.accelerator
        )
    print(common.table(package_cells(made)), end="")


def package_cells(made: Sequence[Any]) -> list[list[str]]:
    """A line a package."""
    cells = [["network", "model", "arena", "package"]]
    for package in made:
        arena = f"{package.arena_bytes / 1000:.1f} kB" if package.arena_bytes else ""
        size = f"{package.model_bytes / 1000:.1f} kB"
        if package.cycles:
            arena += f", {package.cycles / 1e6:.2f} M cycles"
        cells.append([package.name, size, arena, str(package.folder)])
    return cells
