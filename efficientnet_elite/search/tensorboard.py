"""Learning curves for TensorBoard: a run for each candidate, in the folder ``tensorboard``.

Each candidate has one file, to which each epoch appends one record. The records in a file can be
counted, so that a search that was killed adds what is missing and writes nothing twice. The format
(TFRecord frames around Event messages) is small and stable: writing it needs neither TensorFlow nor
TensorBoard.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from efficientnet_elite.search.ledger import Epoch

FOLDER = "tensorboard"
FILE_NAME = "events.out.tfevents.elite"


class Summaries:
    """Writes validation accuracy, training loss and seconds of every epoch.

    The wall time of an epoch is the start of the search plus the training time of its candidate so
    far. TensorBoard's relative axis therefore shows the training time of the candidate, whatever
    else was trained at the same time.
    """

    def __init__(self, workdir: Path, started: str, epochs: Mapping[str, Sequence[Epoch]]):
        """Brings the files of a work directory up to date.

        Args:
          workdir: work directory of the search.
          started: time at which the search was started, in ISO format.
          epochs: candidate to its recorded epochs, in order and without gaps.
        """
        self._folder = workdir / FOLDER
        self._started = datetime.fromisoformat(started).timestamp()
        self._trained: defaultdict[str, float] = defaultdict(float)  # candidate to seconds
        for path in self._folder.glob(f"*/{FILE_NAME}"):
            if path.parent.name not in epochs:  # of an earlier search in this folder
                path.unlink()
        for name, done in epochs.items():
            written = _repaired(self.path(name), len(done))
            self._trained[name] = sum(epoch.seconds for epoch in done[:written])
            for epoch in done[written:]:
                self.record(epoch)

    def path(self, candidate: str) -> Path:
        """The file with the curves of a candidate."""
        return self._folder / candidate / FILE_NAME

    def record(self, epoch: Epoch) -> None:
        """Appends the next epoch of a candidate."""
        self._trained[epoch.candidate] += epoch.seconds
        values = {
            "validation_accuracy": epoch.validation_accuracy,
            "train_loss": epoch.train_loss,
            "seconds": epoch.seconds,
        }
        # Event: 1 wall_time, 2 step, 3 file_version, 5 summary; Summary: 1 value; Value: 1 tag,
        # 2 simple_value (TensorFlow's event.proto and summary.proto).
        summary = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + _key(2, _FIXED32) + struct.pack("<f", value))
            for tag, value in values.items()
        )
        step = _key(2, _VARINT) + _varint(epoch.epoch)
        frame = self._frame(self._trained[epoch.candidate], step + _bytes(5, summary))
        path = self.path(epoch.candidate)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            if not file.tell():
                frame = self._frame(0.0, _bytes(3, b"brain.Event:2")) + frame
            file.write(frame)

    def _frame(self, seconds: float, fields: bytes) -> bytes:
        """An event ``seconds`` after the start, framed with its length and checksums."""
        event = _key(1, _FIXED64) + struct.pack("<d", self._started + seconds) + fields
        length = struct.pack("<Q", len(event))
        return length + _checksum(length) + event + _checksum(event)


def _repaired(path: Path, epochs: int) -> int:
    """How many epochs a file holds once a torn end has been cut off; 0 where there is none.

    A file of more epochs than were recorded is of another search, and removed.
    """
    if not path.exists():
        return 0
    content = path.read_bytes()
    end, frames = 0, 0
    while len(content) - end >= _OVERHEAD:
        after = end + _OVERHEAD + struct.unpack_from("<Q", content, end)[0]
        if after > len(content):
            break
        end, frames = after, frames + 1
    written = frames - 1  # the first tells the version of the format
    if not 0 < written <= epochs:
        path.unlink()
        return 0
    if end < len(content):
        with path.open("r+b") as file:
            file.truncate(end)
    return written


# -- wire formats: protocol buffers, TFRecord ------------------------------------------------------

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # types of fields
_OVERHEAD = 16  # bytes of a frame beside the event: length, its checksum, the event's checksum


def _key(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _bytes(field: int, content: bytes) -> bytes:
    return _key(field, _LENGTH) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def _checksum(content: bytes) -> bytes:
    """CRC-32C (Castagnoli), masked as TFRecord wants it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _crc_table() -> tuple[int, ...]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC_TABLE = _crc_table()
