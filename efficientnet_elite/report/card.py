"""The model card: ``MODEL_CARD.md`` beside the files of an export, as model hubs show it.

It is made of what lies there: the sidecar, the stored predictions, and the latencies of the work
directory. What these do not say, as those of older versions, is left out. The lines at the top are
the metadata that Hugging Face reads.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from efficientnet_elite.config import WITHOUT_EFFECT
from efficientnet_elite.device import costs
from efficientnet_elite.device.devices import CYCLES_PER_INSTRUCTION
from efficientnet_elite.device.instructions import CORES
from efficientnet_elite.export import beside
from efficientnet_elite.export.predictions import FILE as PREDICTIONS
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.report import artefacts
from efficientnet_elite.report.artefacts import Artefacts
from efficientnet_elite.report.mistakes import FORMS, Mistakes
from efficientnet_elite.report.pareto import interval
from efficientnet_elite.search.starts import RANDOM, Start
from efficientnet_elite.search.workdir import write_bytes
from efficientnet_elite.text import percent

FILE = "MODEL_CARD.md"
# Computed costs.
_SHOWN = ("params", "macs", "arena_bytes", *(core.metric for core in CORES.values()))
_MEGAHERTZ = 100  # the clock for which a time is estimated
FEW_IMAGES = 50
"""A class with fewer test images has an accuracy that is known to about 14 points at best."""


def write_all(workdir: Path) -> list[Path]:
    """Writes the cards of all exports in a work directory; returns their paths.

    An export whose sidecar is damaged, or says too little, gets none.
    """
    names = sorted(path.name for path in (workdir / beside.FOLDER).glob("*/"))
    found = artefacts.read(workdir, names)
    written = []
    for name, sidecar in found.sidecars.items():
        path = workdir / beside.FOLDER / name / FILE
        try:
            content = text(path.parent, sidecar, found)
        except artefacts.UNUSABLE:
            continue
        write_bytes(path, content.encode())
        written.append(path)
    return written


def write(folder: Path, sidecar: Mapping[str, Any]) -> Path:
    """Writes the card of an export without a work directory; for the arguments see `text`."""
    path = folder / FILE
    write_bytes(path, text(folder, sidecar).encode())
    return path


def text(folder: Path, sidecar: Mapping[str, Any], found: Artefacts | None = None) -> str:
    """The content of a card.

    Args:
      folder: with the files of the export.
      sidecar: content of its sidecar.
      found: what is known of mistakes and latencies in its work directory, if it has one.
    """
    details = sidecar.get("details") or {}
    mistakes = found.mistakes.get(sidecar["name"]) if found else None
    sections = (
        _title(sidecar),
        _use(sidecar),
        _images(sidecar["labels"], details),
        _origin(details),
        _accuracy(sidecar, mistakes),
        _confidence(sidecar),
        _devices(sidecar, details, found),
        _limits(sidecar, details, mistakes),
        _files(folder, sidecar),
    )
    blocks = [block for section in sections for block in section]
    return "\n\n".join([_metadata(sidecar, details), *blocks]) + "\n"


# -- metadata ----------------------------------------------------------------------------------


def _metadata(sidecar: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    """The front matter; values are written as JSON, which YAML contains."""
    masks = _masks(sidecar)
    task = "image-segmentation" if masks else "image-classification"
    start = Start.recorded(details.get("start"))
    licence = "unknown" if start is None else start.licence.lower()
    metric = "mean_iou" if masks else "accuracy"
    dataset = _dataset(details)
    lines: dict[str, Any] = {
        "license": licence,
        "library_name": "tflite",
        "pipeline_tag": task,
        "tags": ["tflite", "litert", "int8", "tiny", "efficientnet-elite"],
        "metrics": [metric],
    }
    if dataset:
        lines["datasets"] = [dataset]
    if dataset and (accuracy := sidecar["verification"].get("int8_accuracy")) is not None:
        result = {
            "task": {"type": task},
            "dataset": {"name": dataset, "type": dataset, "split": "test"},
            "metrics": [{"type": metric, "value": round(accuracy, 6), "name": "int8, test"}],
        }
        lines["model-index"] = [{"name": sidecar["name"], "results": [result]}]
    content = "\n".join(f"{key}: {json.dumps(value)}" for key, value in lines.items())
    return f"---\n{content}\n---"


def _dataset(details: Mapping[str, Any]) -> str | None:
    """Name of the data set; of a folder its own name only, as paths say nothing elsewhere."""
    name = (details.get("dataset") or {}).get("name")
    if name is None:
        return None
    kind, _, place = name.partition(":")
    return Path(place).name if kind == "folder" else place or kind


def _masks(sidecar: Mapping[str, Any]) -> bool:
    return sidecar["verification"].get("score") == "mIoU"


# -- sections ----------------------------------------------------------------------------------


def _title(sidecar: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {sidecar['name']}"
    height, width = sidecar["input"]["shape"][1:3]
    kind = "segmentation network" if _masks(sidecar) else "image classifier"
    yield (
        f"A tiny {kind} for {len(sidecar['labels'])} classes and images of {height} x {width} "
        f"pixels, as `.tflite` files for LiteRT and TensorFlow Lite Micro. Made by "
        f"efficientnet-elite {sidecar['versions'].get('efficientnet-elite', '')}".rstrip()
        + "."
    )


def _use(sidecar: Mapping[str, Any]) -> Iterator[str]:
    files = sidecar["files"]
    file = files.get("int8", files["float32"])["file"]
    given = sidecar["input"]
    rules = [f"`{form}`: {given[form]}" for form in ("int8", "float32") if form in given]
    yield "## Use"
    yield f"```\nelite predict {file} IMAGES\n```"
    yield (
        f"Input: {' x '.join(map(str, given['shape']))}, {given['layout']}; {'; '.join(rules)}. "
        f"Output: {sidecar['output']['meaning']}. Classes, in the order of the outputs, are in "
        "`labels.txt`; all of it is also in the sidecar."
    )


def _images(labels: Sequence[str], details: Mapping[str, Any]) -> Iterator[str]:
    data = details.get("dataset") or {}
    yield "## Data"
    if not data:
        yield "Nothing is known of the images that it was trained with."
        yield _table(["class"], [[label] for label in labels])
        return
    parts = data.get("parts") or {}
    used = (
        "The test part was used for the accuracies below alone. "
        if "train" in details
        else "It verified the files; which images the network was trained with is not known here. "
    )
    sizes = ", ".join(f"{count:,} for {part}" for part, count in parts.items())
    yield (
        f"Data set `{_dataset(details)}`{': images ' + sizes if sizes else ''}. {used}"
        f"Fingerprint of images and split: `{data['fingerprint']}`."
    )
    counts = {part: each for part, each in (data.get("class_counts") or {}).items() if each}
    rows = [
        [label, *(f"{each[number]:,}" for each in counts.values())]
        for number, label in enumerate(labels)
    ]
    yield _table(["class", *(f"{part} images" for part in counts)], rows)


def _origin(details: Mapping[str, Any]) -> Iterator[str]:
    if "train" not in details:
        return
    yield "## Training"
    start = Start.recorded(details.get("start"))
    if start is None:
        yield f"It began from {RANDOM}."
    else:
        changed = f", which differs in {start.deviation}" if start.deviation else ""
        yield (
            f"It began from {start.text}: {start.origin}{changed}; SHA-256 `{start.sha256}`. It is "
            "a derived work of these weights."
        )
    recipe = {"epochs trained": details.get("epochs"), **details["train"]}
    used = {
        name.replace("_", " "): value
        for name, value in recipe.items()
        if value is not None and name not in WITHOUT_EFFECT
    }
    yield _table(["setting", "value"], [[name, str(value)] for name, value in used.items()])


def _accuracy(sidecar: Mapping[str, Any], mistakes: Mistakes | None) -> Iterator[str]:
    verified = sidecar["verification"]
    if "int8_accuracy" not in verified:
        return
    yield "## Accuracy"
    images, score = verified["test_images"], verified.get("score", "top-1")
    yield f"Of the files themselves in LiteRT, on {images:,} test images."
    rows = []
    for form, key in zip(FORMS, ("float_accuracy", "int8_accuracy"), strict=True):
        low, high = interval(verified[key], images)
        known = "" if _masks(sidecar) else f"{percent(low)} to {percent(high)}"
        more = []
        if mistakes is not None:
            quality = mistakes.qualities["test", form]
            more = [percent(quality.balanced_accuracy), percent(quality.macro_f1)]
        rows.append([form, percent(verified[key], 2), known, *more])
    names = ["balanced accuracy", "mean F1"] if mistakes is not None else []
    yield _table(["file", score, "95 % interval (Wilson)", *names], rows)
    if mistakes is not None:
        float32, int8 = (mistakes.qualities["test", form].classes for form in FORMS)
        yield _table(
            [
                "class",
                "test images",
                *(f"{k}, {f}" for f in FORMS for k in ("precision", "recall")),
            ],
            [
                [
                    after.label,
                    f"{after.support:,}",
                    *(percent(share) for c in (before, after) for share in (c.precision, c.recall)),
                ]
                for before, after in zip(float32, int8, strict=True)
            ],
        )
    elif shares := verified.get("int8_class_iou"):
        cells = ["" if share is None else percent(share) for share in shares]
        yield _table(["class", "IoU, int8"], zip(sidecar["labels"], cells, strict=True))


def _confidence(sidecar: Mapping[str, Any]) -> Iterator[str]:
    found = sidecar.get("confidence")
    if not found:
        return
    yield "## Confidence"
    yield (
        f"Divide the logits by {found['temperature']:.3f} before the softmax: probabilities then "
        f"agree best with the {found['images']:,} validation images."
    )
    unknown = found.get("unknown")
    if unknown and unknown["threshold"] is not None:
        yield (
            f"An answer with a probability below {unknown['threshold']:.3f} is to be taken for "
            f"unknown. On the validation part {percent(unknown['coverage'])} of the images then "
            f"get an answer, and {percent(unknown['precision'])} of these answers are right."
        )


def _devices(
    sidecar: Mapping[str, Any], details: Mapping[str, Any], found: Artefacts | None
) -> Iterator[str]:
    yield "## On devices"
    rows = [
        [f"{form} file", f"{entry['bytes'] / 1000:,.0f} kB"]
        for form, entry in sidecar["files"].items()
    ]
    if "spec" in details:
        spec = ArchSpec.from_json(json.dumps(details["spec"]))
        known = costs.computed(spec)
        for metric in (costs.METRICS[n] for n in _SHOWN if n in known):
            value = known[metric.name] / metric.factor
            rows.append([metric.title, f"{value:,.2f} {metric.unit} ({metric.description})"])
        if (count := known.get("cortex_m4_instructions")) is not None:
            cycles = CYCLES_PER_INSTRUCTION["Cortex-M4"]
            text = f"about {count * cycles / _MEGAHERTZ / 1000:,.0f} ms at {_MEGAHERTZ} MHz"
            text += f" (an estimate: {cycles} cycles an instruction, memory that never waits)"
            rows.append(["time on a Cortex-M4 or M33", text])
    patches = sidecar.get("patches") or {}
    if patches.get("grid"):
        grid = "x".join(map(str, patches["grid"]))
        arena = patches["arena_bytes"]["patched"] / 1000
        text = f"{arena:,.1f} kB ({patches['arena']}), {patches['overhead']:+.1%} MACs"
        rows.append([f"arena of the int8 file, in {grid} patches", text])
    export = found.exports.get(sidecar["name"]) if found else None
    if export is not None and found is not None:
        where = f"{found.host.get('cpu', 'unknown processor')}, {found.threads} thread(s)"
        where += f", {found.host.get('runtime', 'LiteRT')}"
        for form in FORMS:
            if latency := getattr(export, f"{form.removesuffix('32')}_latency"):
                rows.append([f"latency, {form}", f"{latency.median_ms:.3g} ms, median ({where})"])
    yield _table(["", "value"], rows)


def _limits(
    sidecar: Mapping[str, Any], details: Mapping[str, Any], mistakes: Mistakes | None
) -> Iterator[str]:
    """What follows from the classes, the input and the number of images."""
    yield "## Limits of use"
    labels, (height, width) = sidecar["labels"], sidecar["input"]["shape"][1:3]
    lines = []
    unknown = ((sidecar.get("confidence") or {}).get("unknown") or {}).get("threshold")
    if _masks(sidecar):
        lines.append("Every pixel gets one of the classes, whatever it shows.")
    elif unknown is None:
        lines.append(
            f"Every image gets one of the {len(labels)} classes, even if it shows none of them."
        )
    else:
        lines.append(
            "Images of other things than the classes are recognised by low confidence alone, which "
            "misses some."
        )
    crop = details.get("crop_fraction")
    largest = "the whole centre square" if height == width else "the largest centre of its shape"
    seen = largest if crop in (None, 1.0) else f"the centre ({percent(crop)})"
    lines.append(
        f"It sees {seen} of an image, at {height} x {width} pixels: what is smaller there than a "
        "few pixels, or outside, has no influence."
    )
    data = details.get("dataset") or {}
    if train := (data.get("parts") or {}).get("train"):
        lines.append(
            f"It was trained with {train:,} images. Images that differ from them (camera, light, "
            "background, season) may get worse answers than the test part shows."
        )
    counts = (data.get("class_counts") or {}).get("train")
    if counts and max(counts) >= 5 * max(1, min(counts)):
        rare = labels[counts.index(min(counts))]
        lines.append(
            f"Classes are uneven: {min(counts):,} training images of {_plain(rare)}, "
            f"{max(counts):,} of {_plain(labels[counts.index(max(counts))])}."
        )
    if mistakes is not None:
        quality = mistakes.qualities["test", "int8"]
        few = [_plain(c.label) for c in quality.classes if c.support < FEW_IMAGES]
        if few:
            shown = ", ".join(few[:10]) + (f" and {len(few) - 10} more" if len(few) > 10 else "")
            lines.append(f"Fewer than {FEW_IMAGES} test images, so that little is known: {shown}.")
        worst = min(quality.classes, key=lambda each: each.f1)
        lines.append(
            f"The weakest class is {_plain(worst.label)}: {percent(worst.recall)} of its images "
            f"are found, {percent(worst.precision)} of the answers with its name are right."
        )
    yield "\n".join(f"- {line}" for line in lines)


def _files(folder: Path, sidecar: Mapping[str, Any]) -> Iterator[str]:
    entries = [*sidecar["files"].values(), *([sidecar["keras"]] if sidecar.get("keras") else [])]
    names = [entry["file"] for entry in entries]
    names += ["labels.txt", f"{sidecar['name']}.json", PREDICTIONS]
    yield "## Files"
    yield _table(
        ["file", "bytes", "SHA-256"],
        [
            [name, f"{len(content):,}", f"`{hashlib.sha256(content).hexdigest()}`"]
            for name in names
            if (folder / name).is_file()
            for content in [(folder / name).read_bytes()]
        ],
    )


# -- Markdown ----------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell if place == 1 else _cell(cell) for cell in row) + " |"
        for place, row in enumerate(lines)
    )


def _cell(text: str) -> str:
    """Text of a cell; what is code already stays as it is."""
    return text if text.startswith("`") else _plain(text)


def _plain(text: str) -> str:
    """Text that Markdown and HTML leave as it is."""
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", " ".join(text.split()))
