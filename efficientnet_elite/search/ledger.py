"""The ledger: one SQLite file with all records and decisions of a search.

Every write is one transaction; what `record_epoch` has returned from survives a crash of the
process and of the machine. Decisions are stored as codes and numbers, to be read and audited
(`audit.audit`). The ledger itself decides nothing. Its format has a number; older formats are
migrated (`migrations`).
"""

from __future__ import annotations

import json
import os
import sqlite3
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from math import nan
from pathlib import Path
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search import migrations
from efficientnet_elite.search.candidates import Candidate
from efficientnet_elite.search.decisions import Cause, Decision, facts_as_json
from efficientnet_elite.search.migrations import FORMAT, SCHEMA
from efficientnet_elite.search.noise import Repeat
from efficientnet_elite.search.tournament import Halt
from efficientnet_elite.training.outcome import Int8Result

FILE_NAME = "ledger.sqlite"


@dataclass(frozen=True)
class Epoch:
    """The result of one epoch of one candidate or repeat.

    Attributes:
      candidate: name of the candidate or repeat.
      epoch: number of the epoch, from 1.
      validation_accuracy: score of the averaged weights on the validation part, 0..1.
      train_loss: mean training loss over the steps of the epoch.
      seconds: time of training and validation, without graph building.
      top1, balanced: see `EpochResult`.
    """

    candidate: str
    epoch: int
    validation_accuracy: float
    train_loss: float
    seconds: float
    top1: float | None = None
    balanced: float | None = None


def reason_unreadable(error: sqlite3.DatabaseError) -> str:
    """What the user can do about an error that reading an open ledger raised; one line."""
    # Locked for long, or a disk that fails; but damaged text is an OperationalError, too.
    if isinstance(error, sqlite3.OperationalError) and "decode" not in str(error):
        return f"ledger.sqlite cannot be read now ({error}): try again"
    return f"ledger.sqlite is damaged ({textwrap.shorten(str(error), 80)}): restore a copy"


@contextmanager
def reading() -> Iterator[None]:
    """UserError instead of SQLite's own errors; also a decorator for functions."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise UserError(reason_unreadable(error)) from error


def _format_of(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


class Ledger:
    """Opens (or creates) the ledger of a work directory. Use as a context manager.

    Where the folder cannot be written, what is there can be read. A ledger of an older format
    (`migrations`) is brought to the current one when it is first written to. Before that it is read
    from a migrated copy in memory, and its file stays as it is: the version that wrote it can still
    continue a search that this one refuses to.

    Args:
      workdir: work directory of the search.
      create: whether to create a ledger where there is none.

    Raises:
      UserError: the file is missing, is no ledger, or is one of a format that this version cannot
        read. It is left as it was.
    """

    def __init__(self, workdir: Path, *, create: bool = False):
        self.path = workdir / FILE_NAME
        self._folder, self._candidates = workdir, list[Candidate]()
        if not create and not self.path.is_file():
            raise UserError(f"no search in {workdir}: {FILE_NAME} is missing; check --workdir")
        if create:
            workdir.mkdir(parents=True, exist_ok=True)
        try:
            self._file = self._connect(create)
            empty = not self._file.execute("SELECT 1 FROM sqlite_master").fetchone()
            if create and empty:
                self._create()
            version = _format_of(self._file)
            self._file.execute("PRAGMA synchronous=FULL")
        except sqlite3.OperationalError as error:
            raise UserError(
                f"{self.path} cannot be opened ({error}): make room if the disk is full, and check "
                "that you may write there"
            ) from error
        except sqlite3.DatabaseError as error:
            raise UserError(f"{self.path} cannot be used as a ledger ({error})") from error
        if not migrations.can_read(version):
            self._file.close()
            raise UserError(self._unusable(version, empty=empty))
        self._db = self._file
        self._copied = 0  # `changes` when the copy in memory was made
        if version != FORMAT:
            self._copy()

    def _unusable(self, version: int, *, empty: bool) -> str:
        if version == 0:
            state = "holds no search yet" if empty else "is no ledger of this tool"
            return f"{self.path} {state}: check --workdir"
        return (
            f"{self.path} was written by another version of this tool (format {version}, this one "
            f"reads {min(migrations.MIGRATIONS)} to {FORMAT}): use that version, or another "
            "--workdir"
        )

    def _connect(self, create: bool) -> sqlite3.Connection:
        mode = "rwc" if create else "rw"
        if not create and not (os.access(self.path, os.W_OK) and os.access(self._folder, os.W_OK)):
            # If SQLite's write-ahead log lies beside the file, it has to be read, too.
            mode = "ro" if Path(f"{self.path}-wal").exists() else "ro&immutable=1"
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)

    def _create(self) -> None:
        self._file.execute("PRAGMA journal_mode=WAL")  # a property of the file, for all who open it
        with self._transaction(self._file):
            if _format_of(self._file) == 0:  # no other process has been faster
                for statement in SCHEMA.split(";"):
                    self._file.execute(statement)
                self._file.execute(f"PRAGMA user_version={FORMAT}")

    def _migrate_file(self) -> None:
        """Brings the file to the current format, all of it or nothing."""
        with self._transaction(self._file):
            self._migrate(self._file)
        self._db = self._file

    def _copy(self) -> None:
        """Copies the file into memory, for reading, and brings the copy to the current format."""
        self._copied = self.changes()
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        self._file.backup(self._db)
        self._migrate(self._db)

    def _migrate(self, database: sqlite3.Connection) -> None:
        try:
            migrations.migrate(database)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{self.path} is damaged: its records of an older version cannot be read "
                f"({error!r}). It is left as it was; restore the file, or use another --workdir"
            ) from error

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        self._file.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads within this context see the same state, even if a search is running."""
        if self._db.in_transaction:  # within another one
            yield
            return
        if self._db is not self._file and self.changes() != self._copied:
            self._copy()
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

    def changes(self) -> int:
        """A number that changes whenever another process has written."""
        return self._file.execute("PRAGMA data_version").fetchone()[0]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction; the first one on an older ledger migrates it before."""
        if self._db is not self._file:
            self._migrate_file()
        with self._transaction(self._file):
            yield

    @contextmanager
    def _transaction(self, database: sqlite3.Connection) -> Iterator[None]:
        try:
            database.execute("BEGIN IMMEDIATE")
            yield
            database.execute("COMMIT")
        except BaseException as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):  # a full disk, above all
                raise UserError(
                    f"{self.path} cannot be written ({error}): make room, then the same command "
                    "continues from here"
                ) from error
            raise

    # -- what the search is ----------------------------------------------------------------------

    def meta(self) -> dict[str, Any]:
        """All settings stored by `start`."""
        rows = self._db.execute("SELECT key, value FROM meta").fetchall()
        return {key: json.loads(value) for key, value in rows}

    def start(
        self,
        candidates: Iterable[Candidate],
        meta: Mapping[str, Any],
        repeats: Iterable[Repeat] = (),
    ) -> None:
        """Stores the pool (in order of preference) and the settings of a new search."""
        with self._writing():
            self._db.executemany(
                "INSERT INTO replicas VALUES (?, ?, ?)",
                [(repeat.name, repeat.candidate, repeat.seed) for repeat in repeats],
            )
            self._db.executemany(
                "INSERT INTO candidates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        c.name,
                        position,
                        c.family,
                        c.group,
                        c.width,
                        c.depth,
                        c.spec.resolution,
                        c.spec.params,
                        c.spec.macs,
                        c.spec.to_json(),
                    )
                    for position, c in enumerate(candidates)
                ],
            )
            self._db.executemany(
                "INSERT INTO meta VALUES (?, ?)",
                [(key, json.dumps(value)) for key, value in meta.items()],
            )

    def candidates(self, groups: Collection[int] | None = None) -> list[Candidate]:
        """The pool as it was stored, or some groups of it; all are read once, as none is added."""
        if groups is not None:
            return self._candidates_where(lambda group: group in groups)
        if not self._candidates:
            self._candidates = self._candidates_where(lambda group: True)
        return list(self._candidates)

    def _candidates_where(self, chosen: Callable[[int], bool]) -> list[Candidate]:
        rows = self._db.execute(
            "SELECT name, family, width, depth, spec, grp FROM candidates ORDER BY position"
        )
        return [
            Candidate(name, family, width, depth, ArchSpec.from_json(spec), group)
            for name, family, width, depth, spec, group in rows
            if chosen(group)
        ]

    def repeats(self) -> list[Repeat]:
        """Trainings that measure the noise of scores."""
        rows = self._db.execute("SELECT name, candidate, seed FROM replicas ORDER BY name")
        return [Repeat(*row) for row in rows]

    def select(self, query: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, one after the other, for those who need not all that there is."""
        return self._db.execute(query)

    # -- what happened ---------------------------------------------------------------------------

    def record_epoch(self, epoch: Epoch) -> None:
        """Stores an epoch; the first record of an epoch stands, a repeated one changes nothing."""
        with self._writing():
            self._db.execute(
                "INSERT OR IGNORE INTO epochs VALUES (?, ?, ?, ?, ?, ?, ?)", astuple(epoch)
            )

    def epochs(self, names: Sequence[str] | None = None) -> dict[str, list[Epoch]]:
        """Name to its recorded epochs, in order and without gaps; absent where none are.

        Repeats are included, under their own names.

        Args:
          names: candidates or repeats; None for all.
        """
        if names is not None:
            found = (self._epochs_where("WHERE candidate = ?", name) for name in names)
            return {name: epochs for part in found for name, epochs in part.items()}
        return self._epochs_where("")

    def _epochs_where(self, condition: str, *values: str) -> dict[str, list[Epoch]]:
        result: dict[str, list[Epoch]] = {}
        rows = self._db.execute(
            "SELECT candidate, epoch, validation_accuracy, train_loss, seconds, top1, balanced"
            f" FROM epochs {condition} ORDER BY candidate, epoch",
            values,
        )
        for row in rows:
            epoch = Epoch(*row)
            recorded = result.setdefault(epoch.candidate, [])
            if epoch.epoch == len(recorded) + 1:
                recorded.append(epoch)
        return result

    def scores(self) -> dict[str, list[float]]:
        """Candidate to its validation accuracies of epoch 1, 2, ..."""
        return {
            name: [epoch.validation_accuracy for epoch in epochs]
            for name, epochs in self.epochs().items()
        }

    def record_int8(self, candidate: str, result: Int8Result) -> None:
        """Stores the int8 accuracy after an epoch; the first record of an epoch stands."""
        with self._writing():
            self._db.execute(
                "INSERT OR IGNORE INTO int8 VALUES (?, ?, ?, ?, ?, ?, ?)",
                (candidate, *astuple(result)),
            )

    def int8(self) -> dict[str, dict[int, Int8Result]]:
        """Candidate to what was measured in int8, by epoch; absent where nothing was."""
        result: dict[str, dict[int, Int8Result]] = {}
        rows = self._db.execute(
            "SELECT candidate, epoch, float_accuracy, int8_accuracy, images, seconds, fault"
            " FROM int8 ORDER BY candidate, epoch"
        )
        for name, epoch, *values in rows:
            result.setdefault(name, {})[epoch] = Int8Result(epoch, *values)
        return result

    def record_failure(self, candidate: str, epoch: int, reason: str) -> None:
        """Stores that a candidate's training cannot go on."""
        with self._writing():
            self._db.execute(
                "INSERT OR IGNORE INTO failures VALUES (?, ?, ?)", (candidate, epoch, reason)
            )

    def failures(self) -> dict[str, str]:
        """Candidate or repeat to the reason of its failure."""
        return dict(self._db.execute("SELECT candidate, reason FROM failures"))

    def record_decisions(self, group: int, decisions: Iterable[Decision]) -> None:
        """Stores decisions; known ones stay as they are."""
        rows = [
            (
                group,
                d.round,
                d.epoch,
                d.candidate,
                d.score if d.scored else None,  # SQLite has no NaN
                d.rank,
                d.survives,
                d.close,
                d.cause,
                facts_as_json(d),
            )
            for d in decisions
        ]
        with self._writing():
            self._db.executemany(
                "INSERT OR IGNORE INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
            )

    def decisions(self, group: int | None = None) -> dict[int, list[Decision]]:
        """Group, all or the one given, to its decisions, by round and rank."""
        result: dict[int, list[Decision]] = {}
        rows = self._db.execute(
            "SELECT grp, round, epoch, candidate, score, rank, survives, close, cause, facts"
            " FROM decisions WHERE ? IS NULL OR grp = ? ORDER BY grp, round, rank",
            (group, group),
        )
        names = {name for (name,) in self._db.execute("SELECT name FROM candidates")}
        for group, number, epoch, name, score, rank, survives, close, cause, facts in rows:
            try:
                if name not in names:
                    raise ValueError("no candidate has this name")
                decision = Decision(
                    round=number,
                    epoch=epoch,
                    candidate=name,
                    score=nan if score is None else float(score),
                    rank=rank,
                    survives=bool(survives),
                    close=bool(close),
                    cause=Cause(cause),
                    **json.loads(facts),
                )
            except (ValueError, TypeError) as error:
                raise UserError(
                    f"{self.path}: this version cannot read the decision about {name} in round "
                    f"{number} ({error}): use the version of this tool that wrote it, or restore "
                    "the file"
                ) from error
            result.setdefault(group, []).append(decision)
        return result

    def record_halt(self, group: int, halt: Halt) -> None:
        """Stores that a group's time is up; replaces what was stored of the group before."""
        with self._writing():
            self._db.execute(
                "INSERT OR REPLACE INTO halts VALUES (?, ?, ?, ?)", (group, *astuple(halt))
            )

    def halts(self) -> dict[int, Halt]:
        """Group to its halt; groups whose time is not up are left out."""
        rows = self._db.execute("SELECT grp, round, epoch, ends FROM halts")
        return {group: Halt(*values) for group, *values in rows}

    def record_elapsed(self, seconds: float) -> None:
        """Stores in the settings (``elapsed``) how long the search has been running in all."""
        self.replace_meta("elapsed", seconds)

    def replace_meta(self, key: str, value: Any) -> None:
        """Stores one of the settings again."""
        with self._writing():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def record_timing(
        self, phase: str, candidate: str, seconds: float, *, add: bool = False
    ) -> None:
        """Accounts for where the time went; a repeated phase replaces, or adds to, the earlier."""
        previous = "seconds +" if add else ""
        with self._writing():
            self._db.execute(
                "INSERT INTO timings VALUES (?, ?, ?) ON CONFLICT (phase, candidate)"
                f" DO UPDATE SET seconds = {previous} excluded.seconds",
                (phase, candidate, seconds),
            )

    def timings(self) -> dict[str, float]:
        """Phase to seconds in all; training is the sum over all epochs."""
        rows = dict(self._db.execute("SELECT phase, SUM(seconds) FROM timings GROUP BY phase"))
        training = self._db.execute("SELECT COALESCE(SUM(seconds), 0) FROM epochs").fetchone()[0]
        (measuring,) = self._db.execute("SELECT SUM(seconds) FROM int8").fetchone()
        int8 = {} if measuring is None else {"int8 accuracy": measuring}
        return {"training": training, **int8, **rows}
