"""Temporary files of commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from efficientnet_elite.cli.scratch import temporary_files

KILLED = """
import os, signal, tempfile
from efficientnet_elite.cli.scratch import temporary_files
with temporary_files():
    print(tempfile.mkdtemp(), flush=True)
    if input():
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_command_clears_what_a_killed_one_has_left(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    command = [sys.executable, "-c", KILLED]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    killed, alive = running
    left, used = (Path(process.stdout.readline().strip()) for process in running)
    killed.communicate("now\n")
    assert killed.returncode == -signal.SIGKILL
    assert left.is_dir()
    with temporary_files():
        assert not left.exists() and used.is_dir(), "those of a running command stay"
        own = Path(tempfile.mkdtemp())
        child = [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"]
        inside = subprocess.run(child, capture_output=True, text=True, check=True).stdout.strip()
        assert own.is_relative_to(tmp_path) and own.parent == Path(inside)
    assert not own.exists()
    assert os.environ["TMPDIR"] == tempfile.gettempdir() == str(tmp_path)
    alive.communicate("\n")
    assert alive.returncode == 0 and not used.exists()


def test_without_a_place_for_a_folder_nothing_changes(tmp_path, monkeypatch):
    (tmp_path / f"elite-temporary-{os.getuid()}").write_text("a file")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_files():
        assert tempfile.gettempdir() == str(tmp_path)
