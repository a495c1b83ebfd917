"""The format of ledgers, and migrations from the formats of older versions.

Every change of the ledger's format comes with an entry in `MIGRATIONS`. Migrations are written
against the formats themselves, in SQL and JSON, and call no code of the search: that changes.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

FORMAT = 6
"""Number of the format that this version writes (SQLite's ``user_version``)."""


SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE candidates (
  name TEXT PRIMARY KEY, position INTEGER NOT NULL, family TEXT NOT NULL, grp INTEGER NOT NULL,
  width REAL NOT NULL, depth REAL NOT NULL, resolution INTEGER NOT NULL,
  params INTEGER NOT NULL, macs INTEGER NOT NULL, spec TEXT NOT NULL);
CREATE TABLE replicas (
  name TEXT PRIMARY KEY, candidate TEXT NOT NULL REFERENCES candidates, seed INTEGER NOT NULL);
CREATE TABLE epochs (
  candidate TEXT NOT NULL REFERENCES candidates, epoch INTEGER NOT NULL,
  validation_accuracy REAL NOT NULL, train_loss REAL NOT NULL, seconds REAL NOT NULL,
  top1 REAL, balanced REAL,
  PRIMARY KEY (candidate, epoch));
CREATE TABLE int8 (
  candidate TEXT NOT NULL REFERENCES candidates, epoch INTEGER NOT NULL,
  float_accuracy REAL NOT NULL, int8_accuracy REAL, images INTEGER NOT NULL,
  seconds REAL NOT NULL, fault TEXT NOT NULL,
  PRIMARY KEY (candidate, epoch));
CREATE TABLE failures (
  candidate TEXT PRIMARY KEY REFERENCES candidates, epoch INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE decisions (
  grp INTEGER NOT NULL, round INTEGER NOT NULL, epoch INTEGER NOT NULL,
  candidate TEXT NOT NULL REFERENCES candidates, score REAL, rank INTEGER NOT NULL,
  survives INTEGER NOT NULL, close INTEGER NOT NULL, cause TEXT NOT NULL, facts TEXT NOT NULL,
  PRIMARY KEY (round, candidate));
CREATE TABLE halts (
  grp INTEGER PRIMARY KEY, round INTEGER, epoch INTEGER NOT NULL, ends INTEGER);
CREATE TABLE timings (
  phase TEXT NOT NULL, candidate TEXT NOT NULL, seconds REAL NOT NULL,
  PRIMARY KEY (phase, candidate));
"""
"""Statements that create the tables of this format."""


def can_read(version: int) -> bool:
    """Whether ledgers of a format can be read: it is the current one, or there are migrations."""
    return version == FORMAT or version in MIGRATIONS


def migrate(database: sqlite3.Connection) -> None:
    """Brings a ledger to the current format, within the caller's transaction."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    while version != FORMAT:
        MIGRATIONS[version](database)
        version += 1
    database.execute(f"PRAGMA user_version={FORMAT}")


# -- 4 to 5: decisions become codes and numbers; "race" gets parameters of its own -----------------


def _from_4(database: sqlite3.Connection) -> None:
    database.execute("UPDATE meta SET key = 'excluded' WHERE key = 'cut'")
    meta = {key: json.loads(value) for key, value in database.execute("SELECT * FROM meta")}
    rule = _decisions_from_4(database, meta)
    if rule == "race":
        if (asked := meta["config"].get("round_epochs")) is not None:
            database.execute(
                "INSERT INTO meta VALUES ('round_epochs_of_format_4', ?)", (json.dumps(asked),)
            )
        for key in ("config", "plan"):
            if key in meta and "round_epochs" in meta[key]:
                settings = meta[key] | _race_rounds(meta[key]["round_epochs"])
                database.execute(
                    "UPDATE meta SET value = ? WHERE key = ?", (json.dumps(settings), key)
                )


def _race_rounds(round_epochs: int) -> dict[str, int | None]:
    """Format 4 divided what it called a round; the same eliminations in today's parameters."""
    first = max(round(0.4 * round_epochs), min(4, round_epochs))
    between = max(round(0.2 * round_epochs), min(2, round_epochs))
    return {
        "round_epochs": between,
        "first_elimination": None if first == 2 * between else first,
    }


def _decisions_from_4(database: sqlite3.Connection, meta: Mapping[str, Any]) -> str | None:
    rule = meta.get("config", {}).get("rule")
    rule = "race" if rule == "recommended" else rule
    changes = {
        (name, epoch): None if int8 is None else int8 - in_float
        for name, epoch, in_float, int8 in database.execute(
            "SELECT candidate, epoch, float_accuracy, int8_accuracy FROM int8"
        )
    }
    rows = database.execute(
        "SELECT grp, round, epoch, candidate, score, rank, survives, reason, close FROM decisions"
        " ORDER BY grp, round, rank"
    ).fetchall()
    scores = {(grp, round_, rank): score for grp, round_, _, _, score, rank, *_ in rows}
    database.execute("DROP TABLE decisions")
    database.execute(
        "CREATE TABLE decisions (grp INTEGER NOT NULL, round INTEGER NOT NULL,"
        " epoch INTEGER NOT NULL, candidate TEXT NOT NULL REFERENCES candidates, score REAL,"
        " rank INTEGER NOT NULL, survives INTEGER NOT NULL, close INTEGER NOT NULL,"
        " cause TEXT NOT NULL, facts TEXT NOT NULL, PRIMARY KEY (round, candidate))"
    )
    for grp, round_, epoch, name, score, rank, survives, reason, close in rows:
        cause, facts = _parsed_reason(reason, scored=score is not None)
        if cause == "ranked":
            facts["rule"] = rule
            if (change := changes.get((name, epoch))) is not None and "with int8 at" in reason:
                facts["int8_change"] = change
            facts["gap"] = _gap(scores, grp, round_, rank, facts)
        known = {key: value for key, value in facts.items() if value is not None}
        database.execute(
            "INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (grp, round_, epoch, name, score, rank, survives, close, cause, json.dumps(known)),
        )
    return rule


def _gap(
    scores: Mapping[tuple[int, int, int], float | None],
    group: int,
    number: int,
    rank: int,
    facts: Mapping[str, Any],
) -> float | None:
    """The distance to the other side of the middle of the ranking, from the scores on record."""
    ranked, survivors = facts.get("ranked"), facts.get("survivors")
    if ranked is None or survivors is None:
        return None
    border = min(survivors, (ranked + 1) // 2)
    score = scores.get((group, number, rank))
    rival = scores.get((group, number, border + 1 if rank <= border else border))
    return None if score is None or rival is None or border >= ranked else abs(score - rival)


_RANKED = re.compile(
    r"(?:, without an int8 form \((?P<fault>.*)\),)?"
    r"(?:, with int8 at \S+ points,)? ranks \d+ of (?P<ranked>\d+), "
    r"(?P<survivors>\d+) (?:goes|go) on",
    re.DOTALL,
)
_LATE = "without a score when time was up"
_SUCCESSOR = re.compile(
    r"takes over, ranked (?P<rank>\d+) of (?P<ranked>\d+) in round (?P<round>\d+): "
    r"(?:all others failed|(?P<replaced>\S+) failed: (?P<failure>.*))",
    re.DOTALL,
)


def _parsed_reason(reason: str, *, scored: bool) -> tuple[str, dict[str, Any]]:
    """Cause and facts of a sentence of format 4; what it does not say is left out."""
    if reason.startswith(_LATE):
        return "late", {"halted": True}
    if match := _SUCCESSOR.fullmatch(reason):
        return "successor", {
            "replaced": match["replaced"],
            "failure": match["failure"],
            "earlier_round": int(match["round"]),
            "earlier_rank": int(match["rank"]),
            "earlier_ranked": int(match["ranked"]),
        }
    if not scored:
        return "failed", {"failure": reason.removeprefix("failed: ")}
    facts: dict[str, Any] = {"halted": True} if reason.endswith("; time is up") else {}
    if match := _RANKED.search(reason):
        facts |= {"ranked": int(match["ranked"]), "survivors": int(match["survivors"])}
        facts["int8_fault"] = match["fault"]
    return "ranked", facts


# -- 5 to 6: an epoch has top-1 and balanced accuracy ---------------------------------------------


def _from_5(database: sqlite3.Connection) -> None:
    for column in ("top1", "balanced"):
        database.execute(f"ALTER TABLE epochs ADD COLUMN {column} REAL")


MIGRATIONS: Mapping[int, Callable[[sqlite3.Connection], None]] = {4: _from_4, 5: _from_5}
"""Format to the function that turns a ledger of it into one of the next format."""
