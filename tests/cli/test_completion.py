"""Completion, asked of a real bash."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from efficientnet_elite import cli

ASK = """
source /dev/stdin <<'SCRIPT'
{script}SCRIPT
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_elite
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script() -> str:
    done = subprocess.run(
        [sys.executable, "-m", "efficientnet_elite", "completion", "bash"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answers(script: str, *words: str, cwd=None) -> list[str]:
    quoted = " ".join(f"'{word}'" for word in words)
    done = subprocess.run(
        ["bash", "--norc"],
        input=ASK.format(script=script, words=quoted),
        capture_output=True,
        text=True,
        cwd=cwd,
    )
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_flags_values_and_files(script, tmp_path):
    assert answers(script, "elite", "") == [*cli.COMMANDS]
    assert answers(script, "elite", "pred") == ["predict"]
    assert answers(script, "elite", "predict", "--sa") == ["--save="]
    assert answers(script, "elite", "search", "--fli") == ["--flip"]
    assert answers(script, "elite", "search", "--nofli") == ["--noflip"]
    assert answers(script, "elite", "predict", "--format", "=") == ["table", "json", "csv"]
    assert answers(script, "elite", "predict", "--format", "=", "j") == ["json"]
    (tmp_path / "net.tflite").touch()
    assert answers(script, "elite", "predict", "ne", cwd=tmp_path) == ["net.tflite"]
    assert answers(script, "elite", "search", "--workdir", "=", "n", cwd=tmp_path) == ["net.tflite"]
    assert answers(script, "elite", "search", "--base-x") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_every_command_and_flag(shell, capsys):
    """These shells are asked for syntax where they are installed."""
    assert cli.main(["completion", shell]) == 0
    text = capsys.readouterr().out
    for command in cli.COMMANDS:
        assert command in text
    assert "base_resolution" in text and "max_size_kb" in text
    if path := shutil.which(shell):
        done = subprocess.run([path, "-n"], input=text, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_another_shell_costs_one_line(capsys):
    assert cli.main(["completion", "tcsh"]) == 1
    assert capsys.readouterr().err == "elite completion: name your shell: bash, zsh, fish\n"
