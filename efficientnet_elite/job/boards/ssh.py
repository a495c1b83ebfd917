"""Boards that OpenSSH reaches.

Files go there as a tar archive through ssh, so that the board needs a shell, tar and Python alone.
The environment with LiteRT is made once; its name tells what was installed.
"""

from __future__ import annotations

import hashlib
import io
import math
import shlex
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from efficientnet_elite.benchmarks.latency import Options
from efficientnet_elite.errors import UserError
from efficientnet_elite.job.boards import program
from efficientnet_elite.job.boards.definitions import Board, Result

_FOLDER = ".cache/elite-boards"
_PACKAGES = ["ai-edge-litert", "numpy", "absl-py"]
_MACHINES = ("x86_64", "aarch64", "arm64")  # for which ai-edge-litert has wheels
_ENVIRONMENT_MB = 400  # the packages and what they need, 320 MB on x86-64, with room for pip
_SSH_FAILED = 255
_CONNECT = ("BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=10", "ServerAliveCountMax=3")


def check(board: Board) -> str:
    """See `Kind.check`."""
    found = _probe(board)
    ready = "its packages are there" if found["ready"] else "its packages are yet to be installed"
    return f"{found['machine']}, Python {found['python']}, {found['free']} MB free, {ready}"


def measure(board: Board, models: Sequence[Path], options: Options, scratch: Path) -> Result:
    """See `Kind.measure`."""
    found = _probe(board)
    needed = 1 + math.ceil(sum(model.stat().st_size for model in models) / 1e6)
    if not found["ready"]:
        needed += _ENVIRONMENT_MB
    if int(found["free"]) < needed:
        raise UserError(
            f"only {found['free']} MB are free there, and {needed} MB are needed: make room or "
            "set `folder` to another disk"
        )
    # Numbered folders, because models of the same name may come from different ones here.
    names = [f"models/{index}/{model.name}" for index, model in enumerate(models)]
    files = [(f"benchmarks/{path.name}", path) for path in program.sources()]
    _send(board, "run", [*files, *zip(names, models, strict=True)])
    if not found["ready"]:
        _install(board)
    python = [_python(board), "-m", "benchmarks"]
    command = program.pinned(board) + program.command(python, names, options)
    done = _ssh(
        board, f"cd {_folder(board)}/run && {shlex.join(command)}; exit $?"
    )  # sh outlives it
    return program.parse(done.stdout, done.stderr, done.returncode, models)


def _probe(board: Board) -> dict[str, str]:
    """What the board is: ``machine``, ``free`` MB, ``python``, and whether it is ``ready``."""
    python = shlex.quote(board.settings.get("python", "python3"))
    script = f"""
        echo "machine=$(uname -s) $(uname -m)"
        mkdir -p {_folder(board)} || exit 1
        echo "free=$(df -Pk {_folder(board)} | awk 'NR == 2 {{print int($4 / 1000)}}')"
        echo "python=$({python} -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
        {python} -c 'import ensurepip, venv' && echo "venv=yes"
        test -e {_folder(board)}/{_environment(board)}/ready && echo "ready=yes"
        true
    """
    done = _ssh(board, script)
    if done.returncode:
        raise UserError(program.last_line(done.stderr))
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    found.setdefault("ready", "" if board.settings.get("install", True) else "yes")
    if not found.get("python"):
        raise UserError(
            f"no {python} there: install Python 3.9 or newer (apt-get install python3-venv), or "
            "set `python`"
        )
    if tuple(map(int, found["python"].split("."))) < (3, 9):
        raise UserError(f"its Python is {found['python']}, and 3.9 is the oldest that works")
    machine = found["machine"].split()[-1]
    if machine not in _MACHINES and "wheels" not in board.settings:
        raise UserError(
            f"there is no LiteRT package for {machine}: set `wheels` to a folder that has one"
        )
    if not found["ready"] and "venv" not in found:
        raise UserError(f"its {python} lacks venv: apt-get install python3-venv")
    return found


def _install(board: Board) -> None:
    """Makes the environment, which has a file ``ready`` once it is complete."""
    place = _environment(board)
    source = ""
    if "wheels" in board.settings:
        wheels = sorted(board.path("wheels").glob("*.whl"))
        _send(board, "wheels", [(wheel.name, wheel) for wheel in wheels])
        source = "--no-index --find-links=wheels"
    script = f"""
        cd {_folder(board)} && rm -rf {place} &&
        {shlex.quote(board.settings.get("python", "python3"))} -m venv {place} &&
        {place}/bin/python -m pip install -q --no-cache-dir --disable-pip-version-check \
            {source} {shlex.join(_packages(board))} &&
        rm -rf wheels && touch {place}/ready
    """
    done = _ssh(board, script)
    if done.returncode:
        raise UserError(f"its packages cannot be installed: {program.last_line(done.stderr)}")


def _packages(board: Board) -> list[str]:
    return list(board.settings.get("packages", _PACKAGES))


def _environment(board: Board) -> str:
    """Name of the environment's folder: another one for other packages or another Python."""
    made_of = repr((_packages(board), board.settings.get("python")))
    return "environment-" + hashlib.sha256(made_of.encode()).hexdigest()[:8]


def _python(board: Board) -> str:
    """Python that has the packages, for a command in the folder ``run``."""
    if board.settings.get("install", True):
        return f"../{_environment(board)}/bin/python"
    return str(board.settings.get("python", "python3"))


def _folder(board: Board) -> str:
    return shlex.quote(board.settings.get("folder", _FOLDER))


def _send(board: Board, folder: str, files: Iterable[tuple[str, Path]]) -> None:
    """Puts files, by their names there, into a new folder below that of the board."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, path in files:
            tar.add(path.resolve(), name)
    place = f"{_folder(board)}/{folder}"
    script = f"rm -rf {place} && mkdir -p {place} && tar -xof - -C {place}"
    done = _ssh(board, script, archive.getvalue())
    if done.returncode:
        raise UserError(f"files cannot be copied: {program.last_line(done.stderr)}")


def _ssh(board: Board, script: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Runs a script of sh on the board.

    Raises:
      UserError: ssh is not installed, or the connection cannot be made or breaks.
    """
    settings = board.settings
    command = ["ssh", *(f"-o{option}" for option in (*settings.get("options", ()), *_CONNECT))]
    if "port" in settings:
        command.append(f"-p{settings['port']}")
    if "identity" in settings:
        command += ["-i", str(board.path("identity")), "-oIdentitiesOnly=yes"]
    command += ["--", settings["address"], f"exec sh -c {shlex.quote(script)}"]
    try:
        done = program.call(command, stdin=stdin)
    except FileNotFoundError as error:
        raise UserError("ssh is not installed: apt-get install openssh-client") from error
    if done.returncode == _SSH_FAILED and not done.stderr.strip():
        raise UserError("the connection broke, or a signal ended its shell")
    if done.returncode == _SSH_FAILED:
        raise UserError(f"no connection: {program.last_line(done.stderr).rstrip('.')}")
    return done
