"""`elite status --watch`: on a terminal, in a pipe, interrupted, and what a look costs."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

import pytest

from efficientnet_elite.cli import status
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.search.summary import SummaryReader, standings, summarize
from efficientnet_elite.search.summary_text import as_text
from tests.support.ledgers import start, train


def command(workdir, *flags):
    return [sys.executable, "-m", "efficientnet_elite", "status", f"--workdir={workdir}",
            "--watch", "--interval=0.1", *flags]  # fmt: skip


def finish(ledger, pause=0.0):
    """Trains what there is to train."""
    while jobs := [job for s in standings(ledger).values() for job in s.pending]:
        for job in jobs:
            done = len(ledger.scores().get(job.candidate, ()))
            train(ledger, job.candidate, 0.1 + 0.01 * done, first=done + 1)
            if pause:
                time.sleep(pause)


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it does not happen")


class Terminal:
    """A process on a terminal of so many rows, and what a person sees there."""

    def __init__(self, arguments, rows):
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", rows, 120, 0, 0))
        self.process = subprocess.Popen(
            arguments, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.written = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        while True:
            try:
                chunk = os.read(self._master, 65536)
            except OSError:  # the other end has closed
                return
            if not chunk:
                return
            self.written += chunk.decode()

    def close(self):
        """The exit status, once all has been read."""
        status = self.process.wait(60)
        self._reader.join(60)
        os.close(self._master)
        return status

    @property
    def screen(self):
        """The lines that are left after what was drawn over others."""
        lines = [""]
        for move, text in re.findall(r"\x1b\[(\d*[FJ])|([^\x1b]+)", self.written):
            if move.endswith("F"):
                lines = [*lines[: -1 - int(move[:-1])], ""]
            elif not move:
                first, *others = text.replace("\r", "").split("\n")
                lines = [*lines[:-1], lines[-1] + first, *others]
        return lines


def test_on_a_terminal_it_redraws_in_place_until_the_end(tmp_path):
    ledger, _ = start(tmp_path, {0: "abc", 1: "ab"})
    with ledger:
        seen = Terminal(command(tmp_path), rows=40)
        wait_for(lambda: "Ctrl-C leaves" in seen.written)
        before = seen.screen
        assert len(before) < 20
        finish(ledger, pause=0.15)
        assert seen.close() == 0
        text = as_text(summarize(ledger))
    assert seen.written.count("\x1b[J") > 2
    assert "\n".join(seen.screen) == text  # one state, in full, and nothing else


def test_a_low_terminal_shows_who_is_racing(tmp_path):
    ledger, _ = start(tmp_path, {0: "abcdefgh", 1: "abcdefgh", 2: "abcdefgh"})
    with ledger:
        for group in "012":
            for letter in "abcdefgh":
                train(ledger, f"g{group}{letter}", 0.1 * "abcdefgh".index(letter), 0.5)
        seen = Terminal(command(tmp_path), rows=24)
        wait_for(lambda: "Ctrl-C leaves" in seen.written)
        os.killpg(seen.process.pid, signal.SIGINT)
        assert seen.close() == 0
    shown = [line for line in seen.screen if line]
    assert len(shown) <= 23
    assert not [line for line in shown if "out in round" in line]
    assert [line for line in shown if "g0h" in line and "in the tournament" in line]


def test_in_a_pipe_it_tells_every_change(tmp_path):
    ledger, _ = start(tmp_path, {0: "ab"})
    with ledger:
        train(ledger, "g0a", 0.1)
        process = subprocess.Popen(
            command(tmp_path, "--format=json"), stdout=subprocess.PIPE, text=True
        )
        states = [json.loads(process.stdout.readline())]
        finish(ledger, pause=0.25)
        states += [json.loads(line) for line in process.stdout]
        assert process.wait(60) == 0
    done = [state["epochs_done"] for state in states]
    assert done[0] == 1
    assert done == sorted(set(done))  # nothing twice
    assert len(done) > 2
    assert states[-1]["finished"]


def test_text_in_a_pipe_and_a_search_that_is_over(tmp_path):
    ledger, _ = start(tmp_path, {0: "a"})
    with ledger:
        finish(ledger)
        found = subprocess.run(command(tmp_path), capture_output=True, text=True, check=True)
        assert found.stdout == as_text(summarize(ledger)) + "\n"
    assert "\x1b" not in found.stdout


def test_ctrl_c_leaves_cleanly(tmp_path):
    ledger, _ = start(tmp_path, {0: "ab"})
    with ledger:
        process = subprocess.Popen(
            command(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_a_look_without_news_reads_no_table(tmp_path, monkeypatch):
    ledger, _ = start(tmp_path, {0: "ab"})
    with ledger, Ledger(tmp_path) as reader:
        looks, summaries = [], []

        def look(seconds):
            looks.append(seconds)
            if len(looks) == 5:
                train(ledger, "g0a", 0.5)
            if len(looks) == 9:
                finish(ledger)

        monkeypatch.setattr(status.time, "sleep", look)
        read = SummaryReader.read
        monkeypatch.setattr(SummaryReader, "read", lambda r: summaries.append(1) or read(r))
        states = list(status.changes(reader, 7.0))
    assert looks == [7.0] * 9
    assert len(summaries) == len(states) == 3
    assert [state.epochs_done for state in states][:2] == [0, 1]


@pytest.mark.parametrize("flag", ["--interval=0", "--interval=x"])
def test_mistakes(tmp_path, flag):
    done = subprocess.run(command(tmp_path, flag), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "interval" in done.stderr
