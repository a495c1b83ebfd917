"""Tables of data sources and augmentations, which are chosen by name."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from efficientnet_elite import registry
from efficientnet_elite.errors import UserError

_SOURCES = f"{__package__}.sources"
_AUGMENTATION = f"{__package__}.augmentation"
_POLICIES = f"{__package__}.policies"


@dataclass(frozen=True)
class Source:
    """A data source, chosen as ``--dataset=NAME`` or ``--dataset=NAME:ARGUMENT``.

    Attributes:
      name, description: see `registry.Entry`.
      load: function from (`DataConfig`, argument, greatest length of an image's shorter side in
        pixels or None, `sources.OpenCache`) to `ImageData`, or its name as ``module:function``.
        It gets the listing in place of the argument where there is one. `sources.load_indexed` does
        most of the work for images that can be read by index.
      argument: whether an argument follows the name and a colon.
      usage: how name and argument are written, for help and messages; by default the name alone.
      is_path: whether the argument is a path on this machine.
      of_user: whether it holds the user's own images, for which ``--config=auto`` is the default.
      side: function from (`DataConfig`, argument) to the median of the images' shorter sides in
        pixels, which decodes no image, or None where that is not known; or its name.
      listing: function from (`DataConfig`, argument) to a `listing.Listing`, for sources of which
        images can be read one at a time; or its name. `sources.load_listed` can then be `load`.
    """

    name: str
    description: str
    load: Callable[..., Any] | str
    argument: Literal["none", "required", "optional"] = "none"
    usage: str = ""
    is_path: bool = False
    of_user: bool = False
    side: Callable[..., int | None] | str = f"{__package__}.sides:unknown"
    listing: Callable[..., Any] | str | None = None

    @property
    def spelling(self) -> str:
        """Name and argument as the user writes them."""
        return self.usage or self.name


@dataclass(frozen=True)
class Augmentation:
    """A random change to each training image, after crop and flip.

    Attributes:
      name, description: see `registry.Entry`.
      make: function from the numbers in parentheses after the name to a `picture.Change`, or its
        name as ``module:function``; UserError where a number is out of its range.
      usage: how name and numbers are written, for help and messages; by default the name alone.
      moves_pixels: whether pixels may come to lie where a mask does not expect them. Such an
        augmentation is refused for segmentation.
    """

    name: str
    description: str
    make: Callable[..., Any] | str
    usage: str = ""
    moves_pixels: bool = True

    @property
    def spelling(self) -> str:
        """Name and numbers as the user writes them."""
        return self.usage or self.name


SOURCES = registry.table(
    Source("digits", "1,797 embedded handwritten digits", f"{_SOURCES}:load_digits"),
    Source(
        "folder",
        "class folders of images, with or without train/val/test subfolders",
        f"{_SOURCES}:load_listed",
        argument="required",
        usage="folder:PATH",
        is_path=True,
        of_user=True,
        side=f"{__package__}.sides:of_listing",
        listing=f"{__package__}.folder:list_folder",
    ),
    Source(
        "csv",
        "a table with a line PATH,LABEL or PATH,LABEL,PART for each image",
        f"{_SOURCES}:load_listed",
        argument="required",
        usage="csv:FILE",
        is_path=True,
        of_user=True,
        side=f"{__package__}.sides:of_listing",
        listing=f"{__package__}.tables:list_csv",
    ),
    Source(
        "npz",
        "the arrays images and labels of an .npz file",
        f"{_SOURCES}:load_listed",
        argument="required",
        usage="npz:FILE",
        is_path=True,
        of_user=True,
        side=f"{__package__}.sides:of_listing",
        listing=f"{__package__}.tables:list_npz",
    ),
    Source(
        "tfds",
        "a data set that TensorFlow Datasets has prepared",
        f"{__package__}.tfds_source:load_tfds",
        argument="required",
        usage="tfds:NAME",
        of_user=True,
        side=f"{__package__}.tfds_source:side",
    ),
    Source(
        "rendered",
        "drawn objects; keys: classes=10, images, size, seed=0",
        f"{_SOURCES}:load_rendered",
        argument="optional",
        usage="rendered[:key=value,...]",
    ),
    Source(
        "rendered_masks",
        "drawn objects for segmentation; keys: classes=4, images, size, seed=0",
        f"{_SOURCES}:load_rendered_masks",
        argument="optional",
        usage="rendered_masks[:key=value,...]",
    ),
)

AUGMENTATIONS = registry.table(
    Augmentation(
        "light",
        "small translations and rotations, and weak colour jitter",
        f"{_AUGMENTATION}:light",
    ),
    Augmentation(
        "trivial",
        "TrivialAugment, one operation of any strength",
        f"{_POLICIES}:trivial_augment",
    ),
    Augmentation(
        "rand",
        "RandAugment, N operations of magnitude M, 0 to 10",
        f"{_POLICIES}:rand_augment",
        usage="rand(N,M)",
    ),
    Augmentation(
        "autoaugment",
        "AutoAugment's policy for ImageNet",
        f"{_POLICIES}:auto_augment",
    ),
    Augmentation(
        "jitter",
        "brightness, contrast and saturation times 1 - S to 1 + S",
        f"{_AUGMENTATION}:jitter",
        usage="jitter(S)",
        moves_pixels=False,
    ),
    Augmentation(
        "lighting",
        "AlexNet's noise along the principal colours, with deviation S",
        f"{_AUGMENTATION}:lighting",
        usage="lighting(S)",
        moves_pixels=False,
    ),
    Augmentation(
        "rotate",
        "by up to D degrees",
        f"{_AUGMENTATION}:rotate",
        usage="rotate(D)",
    ),
    Augmentation(
        "translate",
        "by up to a share S of the side",
        f"{_AUGMENTATION}:translate",
        usage="translate(S)",
    ),
    Augmentation(
        "erase",
        "random erasing, with probability P",
        f"{_AUGMENTATION}:erase",
        usage="erase(P)",
        moves_pixels=False,
    ),
)


def source(dataset: str) -> tuple[Source, str]:
    """The source of a data set, and its argument.

    Args:
      dataset: a value of `DataConfig.dataset`, such as ``folder:PATH``.

    Raises:
      UserError: there is no such source, or its argument is missing or not allowed.
    """
    name, colon, argument = dataset.partition(":")
    entry = SOURCES.get(name)
    fits = (
        entry is not None
        and {
            "none": not colon,
            "required": bool(argument),
            "optional": True,
        }[entry.argument]
    )
    if entry is None or not fits:
        *others, last = (each.spelling for each in SOURCES.values())
        raise UserError(f"unknown data set '{dataset}': use {', '.join(others)} or {last}")
    return entry, argument


_POLICY_SUFFIX = ".json"
_NAMED = re.compile(r"(?P<name>\w+)(?:\((?P<numbers>[^()]*)\))?(?:\+|$)")


@dataclass(frozen=True)
class Augmentations:
    """What a value of `DataConfig.augment` asks for.

    Attributes:
      named: entries of the table with the numbers in parentheses, in the order of application.
      policy: path of a file with a policy, which comes last; None where there is none.
    """

    named: tuple[tuple[Augmentation, tuple[float, ...]], ...] = ()
    policy: str | None = None

    @classmethod
    def of(cls, text: str | None) -> Augmentations:
        """Takes a value of `DataConfig.augment` apart.

        Args:
          text: names with their numbers, joined by ``+``, such as ``rand(2,9)+erase``; the last may
            be the path of a policy. None for no augmentation.

        Raises:
          UserError: there is no such augmentation.
        """
        if text is None:
            return cls()
        named, rest = [], text
        while (match := _NAMED.match(rest)) and match["name"] in AUGMENTATIONS:
            named.append((AUGMENTATIONS[match["name"]], _numbers(match["numbers"], text)))
            rest = rest[match.end() :]
        if rest.endswith(_POLICY_SUFFIX):
            return cls(tuple(named), rest)
        if rest or not named:
            known = ", ".join(entry.spelling for entry in AUGMENTATIONS.values())
            raise UserError(
                f"there is no augmentation {rest!r}: choose from none, {known} and "
                f"FILE{_POLICY_SUFFIX}, or join several with +"
            )
        return cls(tuple(named))

    def changes(self) -> list[Any]:
        """Makes the `picture.Change`s, in the order of application.

        Raises:
          UserError: a number is missing, one too many or out of its range; or the file of the
            policy cannot be read.
        """
        changes = []
        for entry, numbers in self.named:
            make = registry.resolve(entry.make)
            try:
                inspect.signature(make).bind(*numbers)
            except TypeError as error:
                raise UserError(f"augmentation {entry.spelling}: {error}") from None
            changes.append(make(*numbers))
        if self.policy is not None:
            changes.append(registry.resolve(f"{_POLICIES}:from_file")(self.policy))
        return changes

    @property
    def policy_sha256(self) -> str | None:
        """SHA-256 of the policy's file; None without one. UserError where it cannot be read."""
        if self.policy is None:
            return None
        try:
            return hashlib.sha256(Path(self.policy).read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(f"augmentation policy {self.policy}: {error.strerror}") from None

    @property
    def moving(self) -> str | None:
        """Name of an augmentation that moves pixels; None if there is none."""
        for entry, _ in self.named:
            if entry.moves_pixels:
                return entry.name
        is_moving = self.policy is not None and self.changes()[-1].moves_pixels
        return self.policy if is_moving else None


def _numbers(text: str | None, whole: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(",")) if text else ()
    except ValueError:
        raise UserError(f"augmentation {whole!r}: {text!r} are no numbers") from None


def with_absolute_policy(augment: str) -> str:
    """A value of `DataConfig.augment` that means the same file from any directory."""
    policy = Augmentations.of(augment).policy if augment.endswith(_POLICY_SUFFIX) else None
    if policy is None:
        return augment
    return augment.removesuffix(policy) + str(Path(policy).expanduser().absolute())
