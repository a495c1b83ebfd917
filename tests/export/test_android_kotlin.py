"""The Kotlin files of Android packages: compiled against stubs, and run but for the app."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from efficientnet_elite.config import InputSize, SizeLike
from efficientnet_elite.data.decode import in_channels, pixels_of
from efficientnet_elite.data.geometry import center_box, crop_and_resize
from efficientnet_elite.export import formats
from efficientnet_elite.export.confidence import Confidence
from efficientnet_elite.export.packages import android
from efficientnet_elite.export.packages.names import identifier
from efficientnet_elite.export.pixel_rule import ELITE, PixelRule
from tests.support import kotlin_programs, tiny_grey, tiny_masks, tiny_tflite

pytestmark = [pytest.mark.slow, kotlin_programs.needs_kotlin]

CROP = 0.875
SIDE = tiny_tflite.SIDE
IMAGENET = PixelRule.named("imagenet")


@dataclass(frozen=True)
class Packaged:
    """A package of a network of `tests.support`, compiled with one of the two runtimes."""

    name: str
    network: ModuleType
    form: formats.Format
    runtime: str
    rule: PixelRule = ELITE

    def write(self, folder: Path) -> list[Path]:
        """Writes the package; returns the Kotlin files of this runtime."""
        android.write_android_package(
            self.network.converted()[self.form],
            name=self.name,
            labels=self.network.LABELS,
            out_dir=folder,
            crop_fraction=CROP,
            rule=self.rule,
            confidence=Confidence(threshold=0.5),
        )
        (driver,) = kotlin_programs.STUBS.glob("Driver.kt")
        net = identifier(self.name)
        (folder / "Driver.kt").write_text(driver.read_text().replace("net_name", net))
        other = {"litert1": "litert2", "litert2": "litert1"}[self.runtime]
        return [path for path in folder.rglob("*.kt") if f"src/{other}/" not in path.as_posix()]


PACKAGES = {
    each.name: each
    for each in (
        Packaged("bytes", tiny_tflite, tiny_tflite.UINT8, "litert2"),
        Packaged("floats", tiny_tflite, formats.FLOAT32, "litert1", IMAGENET),
        Packaged("masks", tiny_masks, tiny_masks.UINT8, "litert1"),
        Packaged("grey", tiny_grey, formats.FLOAT32, "litert2"),
        Packaged("planes", tiny_masks, formats.FLOAT32, "litert2"),
    )
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """All packages, and all classes of all of them, compiled at once."""
    folder = tmp_path_factory.mktemp("android")
    sources = [path for path in kotlin_programs.STUBS.glob("*.kt") if path.name != "Driver.kt"]
    for name, packaged in PACKAGES.items():
        sources += packaged.write(folder / name)
    kotlin_programs.compile_all(sources, folder / "classes")
    return folder


def run(folder: Path, name: str, *commands: bytes) -> list[str]:
    """The driver's answers to commands."""
    network = folder / name / "network/src"
    done = kotlin_programs.run(
        folder / "classes",
        f"elite.{identifier(name)}.DriverKt",
        network / "main/assets",
        network / "androidTest/assets",
        given=b"".join(commands),
        resources=network / "test/resources",
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


def packed(argb: np.ndarray) -> bytes:
    """Pixels (height, width, 4) as the driver reads them."""
    return argb.astype(np.uint8).tobytes()


def opaque(rgb: np.ndarray) -> np.ndarray:
    return np.concatenate([np.full_like(rgb[..., :1], 255), rgb], -1)


def frame(rgb: np.ndarray, rotation: int, pad: int) -> bytes:
    head = struct.pack(">iiii", rgb.shape[1], rgb.shape[0], rotation, pad)
    return b"f" + head + packed(opaque(rgb))


def gives(values: np.ndarray) -> bytes:
    values = values.astype(">f4")
    return b"o" + struct.pack(">i", values.size) + values.tobytes()


def seen(
    rgb: np.ndarray, size: SizeLike = SIDE, crop: float = CROP, channels: int = 3
) -> np.ndarray:
    """What the evaluation sees of an upright image."""
    return pixels_of(
        crop_and_resize(in_channels(rgb, channels), center_box(rgb.shape[:2], crop, size), size)
    )


def photo(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def test_preprocessing_is_that_of_the_evaluation_to_the_byte(folder):
    rng = np.random.default_rng(5)
    commands, expected = [], []
    for _ in range(60):
        height, width = rng.integers(8, 200, 2)
        size, channels = InputSize(*rng.integers(4, 96, 2).tolist()), int(rng.choice([1, 3]))
        turns, crop = int(rng.integers(4)), float(rng.choice([1.0, 0.875, rng.uniform(0.3, 1)]))
        upright = photo(rng, height, width)
        stored = np.rot90(upright, turns)  # upright once it is turned clockwise
        numbers = (stored.shape[1], stored.shape[0], 90 * turns, *size, channels, crop)
        commands.append(b"p" + struct.pack(">iiiiiid", *numbers) + packed(opaque(stored)))
        expected.append(seen(upright, size, crop, channels).tobytes().hex())
    assert run(folder, "bytes", *commands) == expected


@pytest.mark.parametrize("name", PACKAGES)
def test_the_packages_own_test_passes_and_can_fail(folder, name, tmp_path):
    assert run(folder, name, b"t") == ["passed"]
    resource = folder / name / "network/src/test/resources/preprocessing.bin"
    right = resource.read_bytes()
    resource.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    try:
        with pytest.raises(AssertionError, match="image 5"):
            run(folder, name, b"t")
    finally:
        resource.write_bytes(right)


def test_frames_are_turned_and_their_padding_is_left_out(folder):
    rng = np.random.default_rng(0)
    probabilities = np.zeros(10)
    probabilities[3] = 0.75
    commands, expected = [gives(probabilities)], ["1"]
    for turns, pad in ((0, 0), (1, 4), (2, 16), (3, 1), (0, 7)):
        upright = photo(rng, 70, 94)
        commands.append(frame(np.rot90(upright, turns), 90 * turns, pad))
        expected.append(seen(upright).tobytes().hex() + "\tdigit 3 75 %")
    assert run(folder, "bytes", *commands) == expected


def test_an_answer_that_is_not_sure_enough_is_unknown(folder):
    probabilities = np.full(10, 0.07)
    probabilities[9] = 0.37
    commands = (gives(probabilities), frame(photo(np.random.default_rng(0), 40, 40), 0, 0))
    assert run(folder, "floats", *commands)[1].endswith("\tunknown 37 %")


def test_floats_are_those_of_the_pixel_rule(folder):
    upright = photo(np.random.default_rng(1), 64, 48)
    commands = (gives(np.eye(10)[2]), frame(np.rot90(upright), 90, 0))
    (_, line) = run(folder, "floats", *commands)
    taken = IMAGENET.values(seen(upright) / np.float32(128) - 1)
    assert line == taken.astype("=f4").tobytes().hex() + "\tdigit 2 100 %"


def test_grey_networks_take_the_brightness(folder):
    upright = photo(np.random.default_rng(4), 50, 81)
    _, line = run(folder, "grey", gives(np.array([0.0, 1.0])), frame(upright, 0, 3))
    numbers, answer = line.split("\t")
    brightness = seen(upright, channels=1) / np.float32(128) - 1
    np.testing.assert_array_equal(np.array(numbers.split(), np.float32), brightness.reshape(-1))
    assert answer == "bright 100 %"


@pytest.mark.parametrize("name", ["masks", "planes"])
def test_each_pixel_gets_the_class_with_the_greatest_logit(folder, name):
    logits = np.zeros((SIDE, SIDE, 3))
    logits[..., 1] = 100
    logits[: SIDE // 4, :, 2] = 200
    image = photo(np.random.default_rng(2), 32, 32)
    _, line = run(folder, name, gives(logits), frame(image, 0, 0))
    assert line.split("\t")[1] == 'one 75 %; an "other" 25 %'


def test_bitmaps_are_blended_with_white(folder):
    rgba = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 4), np.uint8)
    rgba[:8, :, 3] = 255
    image = Image.fromarray(rgba)
    blended = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    argb = np.concatenate([rgba[..., 3:], rgba[..., :3]], -1)
    command = b"b" + struct.pack(">ii", SIDE, SIDE) + packed(argb)
    (line,) = run(folder, "bytes", command)
    found = np.frombuffer(bytes.fromhex(line), np.uint8).astype(int)
    expected = seen(np.asarray(blended)).reshape(-1).astype(int)
    assert np.abs(found - expected).max() <= 2


@pytest.mark.parametrize("name", ["bytes", "floats", "planes", "grey"])
def test_the_test_on_devices_compares_the_outputs_of_the_file(folder, name):
    content = (folder / name / "network/src/androidTest/assets/golden.bin").read_bytes()
    packaged = PACKAGES[name]
    labels = len(packaged.network.LABELS)
    shape = (SIDE, SIDE, labels) if packaged.network is tiny_masks else (labels,)
    pixels = (SIDE, SIDE, 1 if packaged.network is tiny_grey else 3)
    row = np.dtype([("pixels", np.uint8, pixels), ("outputs", ">f4", shape)])
    count, tolerance = struct.unpack_from(">if", content)
    rows = np.frombuffer(content, row, offset=8)
    assert len(rows) == count == 3
    outputs = rows["outputs"].copy()
    assert run(folder, name, *map(gives, outputs), b"g")[-1] == "passed"
    outputs[2].flat[-1] += 1.5 * tolerance
    with pytest.raises(AssertionError, match="image 2"):
        run(folder, name, *map(gives, outputs), b"g")
