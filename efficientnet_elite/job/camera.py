"""Frames of a camera, through OpenCV, which is an extra."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from efficientnet_elite.data.decode import Pixels
from efficientnet_elite.errors import UserError

_PREFIX = "camera:"


def number_of(images: Sequence[str]) -> str | None:
    """The number in ``camera:N`` where this is the image that is named; None for other images.

    Raises:
      UserError: a camera is named together with other images, or without a number.
    """
    cameras = [image for image in images if image.startswith(_PREFIX)]
    if not cameras:
        return None
    if len(images) > 1:
        raise UserError(f"{cameras[0]} goes on without an end: name it alone")
    number = cameras[0].removeprefix(_PREFIX)
    if not number.isdecimal():
        raise UserError(f"{cameras[0]}: write the camera's number, such as camera:0")
    return number


def frames(number: str) -> Iterator[Pixels]:
    """Frames of a camera, uint8 (height, width, 3) in RGB, until it ends.

    Raises:
      UserError: OpenCV is not installed, or the camera cannot be opened.
    """
    try:
        import cv2
    except ImportError:
        raise UserError(
            "a camera needs OpenCV: `pip install opencv-python-headless`, or the extra camera"
        ) from None
    camera = cv2.VideoCapture(int(number))
    try:
        if not camera.isOpened():
            raise UserError(f"camera:{number} cannot be opened: is it connected and free?")
        while True:
            works, frame = camera.read()
            if not works:
                return
            yield np.ascontiguousarray(frame[..., ::-1])  # OpenCV has blue first
    finally:
        camera.release()
