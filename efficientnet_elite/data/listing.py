"""What a data source knows about its images before they are decoded.

`Listing` is common to all sources whose images can be read one at a time: class folders, tables and
arrays. Loading, the survey of a data set (`survey`) and the size of its images (`sides`) begin with
it. Nothing here needs TensorFlow.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from efficientnet_elite import registry
from efficientnet_elite.config import DataConfig
from efficientnet_elite.data import choices
from efficientnet_elite.data.decode import UnreadableImage
from efficientnet_elite.errors import UserError

PART_NAMES = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
    "tst": "test",
}
"""What people call the parts, in lower case, to what they are called here."""


@dataclass(frozen=True)
class Example:
    """What is known about an image besides its pixels.

    Attributes:
      name: what the user calls the image, for example its path.
      label: number of its class.
      part: the part that the source assigns the image to: ``train`` (also where the source does
        not say), ``validation`` or ``test``.
      num_bytes: size of its file, by which an exchanged file is noticed; 0 where there is no file.
      modified_ns: time of the file's last change in nanoseconds; 0 where there is no file.
      digest: digest of its encoded bytes; empty where there are none or they are not read yet.
      hash: `groups.perceptual_hash`; empty where it is not needed or not computed yet.
      fault: why it cannot be used, where that is known before it is read; otherwise empty.
    """

    name: str
    label: int
    part: str = "train"
    num_bytes: int = 0
    modified_ns: int = 0
    digest: str = ""
    hash: str = ""
    fault: str = ""


@dataclass(frozen=True)
class Listing:
    """The images of a data set, of which none is read yet.

    Attributes:
      class_names: name of each class, by label.
      examples: what is known of each image.
      content: function from the number of an image to the content of its file, or the same pixels
        as a file; raises `UnreadableImage`. It is called from several threads.
      root: folder that names of examples are relative to; None where images are no files.
    """

    class_names: tuple[str, ...]
    examples: Sequence[Example]
    content: Callable[[int], bytes]
    root: Path | None = None

    def encoded(self, number: int) -> bytes:
        """The content of an image; UnreadableImage where it cannot be read or used."""
        if fault := self.examples[number].fault:
            raise UnreadableImage(fault)
        return self.content(number)


def digest(encoded: bytes) -> str:
    """Hashes an encoded image to 32 hex digits; two images have equal digests if they are equal."""
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


def of_data_set(config: DataConfig) -> Listing:
    """The images of a data set, the classes in the order that the user wants.

    Raises:
      UserError: the data set is unknown or missing, cannot be listed, or its classes are not those
        that the user names.
    """
    source, argument = choices.source(config.dataset)
    if config.label_regex is not None:
        check_regex("label_regex", config.label_regex)
        if source.name != "folder":
            raise UserError("label_regex is for folders of images: leave it out")
    if source.listing is None:
        able = [entry.spelling for entry in choices.SOURCES.values() if entry.listing is not None]
        raise UserError(
            f"the images of {config.dataset} cannot be listed before they are loaded: "
            f"use {', '.join(able)}"
        )
    listing: Listing = registry.resolve(source.listing)(config, argument)
    if config.labels is None:
        return listing
    return _in_order(listing, read_labels(Path(config.labels).expanduser()), config.labels)


def _in_order(listing: Listing, names: Sequence[str], path: str) -> Listing:
    """The listing with its classes in another order."""
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path} names the class '{twice}' twice: a line for each class")
    for name in listing.class_names:
        if name not in names:
            raise UserError(f"{path} does not name the class '{name}': a line for each class")
    for name in names:
        if name not in listing.class_names:
            raise UserError(f"{path} names the class '{name}', which has no images: remove it")
    number = [names.index(name) for name in listing.class_names]
    examples = [replace(e, label=number[e.label]) for e in listing.examples]
    return replace(listing, class_names=tuple(names), examples=examples)


def read_labels(path: Path) -> list[str]:
    """The names of classes in a text file, one a line.

    Editors put a byte order mark before the first line, blank lines behind the last one, and spaces
    at the ends of lines; these are no names.

    Raises:
      UserError: the file is missing or no UTF-8 text, or a line between others is blank.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: give the path of a file with one label on each line")
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip()
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: save it in that encoding") from None
    lines = [line.strip() for line in text.splitlines()]
    if "" in lines:
        raise UserError(
            f"{path} has a blank line between others: write the name of a class in each line"
        )
    return lines


def single_class(class_names: Sequence[str]) -> str:
    """What to do about a data set that does not have two classes."""
    return (
        f"there is a single class ({', '.join(class_names)}), and a classifier needs two: give "
        "each class a folder, or name the classes by a table (csv:FILE) or by --label_regex"
    )


def check_regex(name: str, pattern: str) -> None:
    """UserError where a setting is no regular expression with a group."""
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise UserError(f"{name}={pattern}: not a regular expression ({error})") from error
    if not groups:
        raise UserError(
            f"{name}={pattern}: put the part of the name that counts into parentheses, "
            "such as ([a-z]+)"
        )


def first_group(pattern: str, name: str) -> str | None:
    """What the first group of a regular expression matches in the name of an image.

    Args:
      pattern: the expression; with a slash it is searched in the whole name, otherwise in what
        follows the name's last slash: the name of the file.
      name: the name; None is returned where nothing matches.
    """
    found = re.search(pattern, name if "/" in pattern else name.rpartition("/")[2])
    return found and found[1]
