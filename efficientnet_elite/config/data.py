"""Settings of the images."""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite.errors import UserError
from efficientnet_elite.fields import check, documented, setting

AUTO_CHANNELS = "auto"
CROSSFIT = "crossfit"  # a value of DataConfig.validation
FORMER_NAMES = {"validation_fraction": "validation"}  # of fields, to what they are called now
FOLDS = 5  # of the images for training and validation, with that value


@documented
@dataclass(frozen=True)
class DataConfig:
    """Which images a search uses, and how they are split into parts."""

    dataset: str = setting("digits", "Data set that is used to train, validate and test.")
    label_regex: str | None = setting(
        None,
        "Regular expression for a folder of images without class folders: what its first group "
        "matches in the name of a file is the image's class, such as ^([a-z]+)_. An expression "
        "with a slash is searched in the path below the data set's folder. By default class "
        "folders are expected.",
    )
    labels: str | None = setting(
        None,
        "Text file with the name of one class in each line, in the order of the outputs; it must "
        "name the classes of the data set. By default they are in alphabetical order. "
        "`elite export --model` takes the names of the classes from it where there is no data set.",
    )
    validation: float | str = setting(
        0.2,
        "Share of the training images, 0..1, that is split off to validate candidates if the data "
        f"set has no validation part. With {CROSSFIT} it is a fifth, and if the last two "
        "candidates of a group are too close to call, they are trained again for each other fifth, "
        "which then validates them, and ranked by the mean of the five (docs/rules.md): for small "
        "data sets.",
    )
    test_fraction: float = setting(
        0.2,
        "Share of all images, 0..1, that is held out to measure test accuracy if the data set has "
        "no test part.",
    )
    group_duplicates: bool | None = setting(
        None,
        "Keep images that look alike, such as frames of one video, together in one part where "
        "parts are split off. Copies, equal to the byte, always stay together. By default yes; a "
        "search or training that an earlier version began keeps its parts.",
    )
    group_by_name: str | None = setting(
        None,
        "Keep images together in one part of which the names say that they belong together, such "
        "as those of one scene or patient: what the first group of this regular expression matches "
        "in the name of the file, such as ^(p[0-9]+)_, names the group. An expression with a slash "
        "is searched in the path below the data set's folder. By default names mean nothing.",
    )
    seed: int = setting(
        0,
        "Random seed of the split into parts. The flag --seed sets both this seed and that of the "
        "search.",
        at_least=0,
    )
    data_dir: str | None = setting(
        None,
        "Folder in which TensorFlow Datasets keeps its prepared data sets. By default its usual "
        "one, ~/tensorflow_datasets.",
    )
    cache_gb: float = setting(
        2.0,
        "Most gigabytes of decoded images that may be stored in the work directory, so that each "
        "image is decoded only once. A larger data set is decoded again in each epoch.",
        at_most=1024.0,
    )
    channels: str = setting(
        AUTO_CHANNELS,
        "Channels of the images that networks take: 3 for colours, 1 for greyscale, which needs a "
        "third of the memory for the image. With auto it is 1 where all images in a folder, table "
        "or .npz file are grey, and otherwise 3. A search or training keeps what it began with.",
        choices=("1", "3", AUTO_CHANNELS),
    )
    flip: bool | None = setting(
        None,
        "Mirror half of the training images. Turn it off if classes differ in left and right. "
        "By default the data source decides.",
    )
    center_crop: bool | None = setting(
        None,
        "Evaluate on the paper's centre crop of each image instead of the whole image. Turn it off "
        "if the subject fills the frame. By default the data source decides.",
    )
    min_area: float | None = setting(
        None,
        "Smallest share of an image's area that a random training crop covers, 0..1; 0.08 in the "
        "paper. By default the data source decides.",
    )
    augment: str | None = setting(
        None,
        "Augmentation of training images after crop and flip (docs/data.md): none, or names joined "
        "by +, each with its numbers in parentheses if they are not the usual ones, such as "
        "rand(2,9)+erase. The last may be FILE.json, a policy in the form of Fast AutoAugment. By "
        "default there is none.",
    )

    unlabelled: str | None = setting(
        None,
        "Folder of more images like those of the data set, without labels. They are only used for "
        "distillation. By default there are none.",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", str(self.channels))  # 1 is as good as "1"
        object.__setattr__(self, "validation", _validation(self.validation))
        check(self)
        if self.augment == "none":
            object.__setattr__(self, "augment", None)  # so that both are the same setting

    @property
    def validation_fraction(self) -> float:
        """Share of the training images that is split off to validate candidates."""
        return 1 / FOLDS if self.validation == CROSSFIT else float(self.validation)

    @property
    def folds(self) -> int:
        """Number of folds of the images for training and validation; 1 without cross-validation."""
        return FOLDS if self.validation == CROSSFIT else 1

    @property
    def input_channels(self) -> int:
        """Number of channels; 3 as long as it is not decided, see `data.channels.decided`."""
        return 1 if self.channels == "1" else 3


def _validation(value: float | str) -> float | str:
    """A share as a number, or `CROSSFIT`; UserError where it is neither."""
    if value == CROSSFIT:
        return CROSSFIT
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UserError(f"validation={value!r}: use {CROSSFIT}, or a share such as 0.2") from None
