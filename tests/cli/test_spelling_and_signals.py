"""Both spellings of flags, and signals that end a command like Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from efficientnet_elite import cli
from tests.support.command import TRAIN_FLAGS

MODELS = ["models", "--pool=mobilenetv1", "--format=json"]


def rows(capsys, *flags: str) -> list:
    assert cli.main([*MODELS, *flags]) == 0
    return json.loads(capsys.readouterr().out)


def test_hyphens_are_underscores_in_flags(capsys):
    expected = rows(capsys, "--base_resolution=96", "--group_by=params")
    assert rows(capsys, "--base-resolution=96", "--group-by", "params") == expected
    assert rows(capsys, "-base-resolution=96", "-group_by=params") == expected
    assert rows(capsys, "--base-resolution=64") != expected


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["--noflip"], ["--noflip"]),
        (["--no-flip"], ["--noflip"]),
        (["--no-center-crop=a-b"], ["--nocenter_crop=a-b"]),
        (["--base-resolutio=9"], ["--base-resolutio=9"]),  # unknown: the message has it as given
        (["my-file", "--", "--base-resolution"], ["my-file", "--", "--base-resolution"]),
    ],
)
def test_only_names_of_flags_change(given, meant):
    from efficientnet_elite.cli.search import FLAGS

    assert cli._with_underscores(given, FLAGS) == meant


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGHUP", marks=pytest.mark.slow)])
def test_a_signal_ends_a_real_training_like_ctrl_c(name, tmp_path):
    number = getattr(signal, name)
    command = [sys.executable, "-m", "efficientnet_elite", "train", *TRAIN_FLAGS, "--epochs=900"]
    process = subprocess.Popen(
        [*command, f"--workdir={tmp_path}"], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not (tmp_path / "lock").is_file():  # it is at work, and has saved nothing yet or little
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert error.splitlines()[-1] == (
        f"elite train: ended by {name}; the same command goes on from here"
    )


HALF_MADE = """
import os, signal, sys
from tqdm import tqdm
from efficientnet_elite import cli

def run(arguments):
    tqdm._get_free_pos = lambda *_: os.kill(os.getpid(), signal.SIGHUP)
    tqdm(total=9, file=sys.stderr)

cli._run = run
sys.exit(cli.main(["train"]))
"""


def test_a_signal_that_meets_a_half_made_bar():
    ended = subprocess.run([sys.executable, "-c", HALF_MADE], stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 128 + signal.SIGHUP
    assert ended.stderr == "\nelite train: ended by SIGHUP; the same command goes on from here\n"


def test_handlers_are_put_back(capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["--version"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before
