"""Prints tables of what `elite export` has made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from efficientnet_elite.cli import common

if TYPE_CHECKING:
    from efficientnet_elite.export.packages.packages import Package


def show(sidecars: Sequence[Mapping[str, Any]], layers: int) -> None:
    """Prints tables of some exports.

    Args:
      sidecars: of the exports.
      layers: how many operators of each int8 file to list, those that add most noise.
    """
    if "float_accuracy" in sidecars[0]["verification"]:
        _show_verified(sidecars, layers)
    else:  # exported without images
        files = sidecars[0]["files"].values()
        cells = [["file", "kB"], *([f["file"], f"{f['bytes'] / 1000:.0f}"] for f in files)]
        print(common.table(cells), end="")
    for sidecar in sidecars:
        if normalisation := sidecar["details"].get("normalisation"):  # of a .keras file
            print(f"normalisation: {normalisation['absorbed']}")
        _show_patches(sidecar["name"], sidecar.get("patches"))


def _show_patches(name: str, record: Mapping[str, Any] | None) -> None:
    """Prints a line for a network that runs patch by patch, or need not do so."""
    if record is None:
        return
    before, after = (f"{record['arena_bytes'][k] / 1000:,.1f}" for k in ("whole", "patched"))
    if record["grid"] is None:
        print(f"{name}: no patches, because the arena of {before} kB is small enough")
        return
    rows, columns = record["grid"]
    print(
        f"{name}: {rows}x{columns} patches up to operator {record['cut']['operators']}, arena of "
        f"{record['arena']} {before} -> {after} kB, MACs {record['overhead']:+.1%}"
    )


def _show_verified(sidecars: Sequence[Mapping[str, Any]], layers: int) -> None:
    print(common.exported_table(sidecars), end="")
    if cells := _class_ious(sidecars):
        print("\n" + common.table(cells), end="")
    if cells := _unknown(sidecars):
        print("\n" + common.table(cells), end="")
    if cells := _remedies(sidecars):
        print("\n" + common.table(cells), end="")
    if layers:
        print("\n" + common.table(_layers(sidecars, layers)), end="")


def _class_ious(sidecars: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Each class's intersection over union in the int8 files of segmentation networks."""
    cells = []
    for sidecar in sidecars:
        if shares := sidecar["verification"].get("int8_class_iou"):
            cells.append(
                [sidecar["name"], *("-" if share is None else f"{share:.2%}" for share in shares)]
            )
    return [["int8 IoU", *sidecars[0]["labels"]], *cells] if cells else []


def _unknown(sidecars: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """When answers are taken for unknown, for exports that were asked to choose a threshold."""
    cells = [["unknown", "below", "right of the given", "answers given", "unknown images rejected"]]
    for sidecar in sidecars:
        found = (sidecar.get("confidence") or {}).get("unknown")
        if found is None:
            continue
        if found["threshold"] is None:
            text = f"no threshold reaches {found['wanted_precision']:.1%}"
            cells.append([sidecar["name"], "never", text, "100.0%", "-"])
            continue
        rejected = found["unknown_rejected"]
        shares = found["threshold"], found["precision"], found["coverage"]
        shown = [f"{share:.1%}" for share in shares]
        cells.append([sidecar["name"], *shown, "-" if rejected is None else f"{rejected:.1%}"])
    return cells if len(cells) > 1 else []


def _remedies(sidecars: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Trials of remedies, for the networks whose accuracy drop with plain int8 was too large."""
    cells = [["champion", "int8 (validation part)", "accuracy", "gained", ""]]
    for sidecar in sidecars:
        record = sidecar.get("int8_remedies") or {"attempts": []}
        for attempt in record["attempts"] if len(record["attempts"]) > 1 else []:
            accuracy, gained = attempt["accuracy"], attempt["gained"]
            cells.append(
                [
                    sidecar["name"],
                    attempt["trial"],
                    "failed" if accuracy is None else f"{accuracy:.2%}",
                    "" if gained is None else f"{gained:+.2f}",
                    "taken" if attempt["trial"] == record["taken"] else attempt["fault"] or "",
                ]
            )
    return cells if len(cells) > 1 else []


def _layers(sidecars: Sequence[Mapping[str, Any]], count: int) -> list[list[str]]:
    cells = [["champion", "layer", "operator", "SNR", "noise added"]]
    for sidecar in sidecars:
        worst = sorted(sidecar["int8_layers"], key=lambda error: -error["added_noise"])
        for error in worst[:count]:
            figures = f"{error['snr_db']:.1f} dB", f"{error['added_noise']:.3%}"
            cells.append([sidecar["name"], error["layer"], error["operator"], *figures])
    return cells


def show_packages(packages: Sequence[Package], *, patches: bool = True) -> None:
    """Prints a line for each package, and one for each that runs patch by patch.

    Args:
      packages: what was written.
      patches: whether to print the latter; `show` prints them for exports.
    """
    cells = [["network", "model", "arena", "package"]]
    for package in packages:
        arena = f"{package.arena_bytes / 1000:.1f} kB" if package.arena_bytes else ""
        size = f"{package.model_bytes / 1000:.1f} kB"
        if package.cycles:
            arena += f", {package.cycles / 1e6:.2f} M cycles"
        cells.append([package.name, size, arena, str(package.folder)])
    print(common.table(cells), end="")
    for package in packages if patches else ():
        _show_patches(package.name, package.patches)
