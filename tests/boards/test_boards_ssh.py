"""Boards behind a real OpenSSH server on loopback, and all that can go wrong with one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import absl
import pytest

from efficientnet_elite import cli
from efficientnet_elite.job.boards import definitions
from efficientnet_elite.job.boards.kinds import KINDS
from tests.support.boards import models

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
pytestmark = pytest.mark.skipif(
    not Path(SSHD).exists() or shutil.which("ssh") is None,
    reason="no OpenSSH server and client: apt-get install openssh-server",
)

CONFIG = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
SetEnv PATH={folder}/programs:{path}
"""


class Server:
    """A server whose programs may be replaced, and what a board needs to reach it.

    Attributes:
      folder: of its keys; ``programs`` in it is the first folder of its PATH.
      settings: of the board, as `elite boards add` takes them. Its Python has the packages.
      process: the server.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "programs").mkdir()
        for name in ("host_key", "key"):
            key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(key, check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        config = folder / "config"
        path = os.environ["PATH"]
        config.write_text(CONFIG.format(port=port, folder=folder, path=path))
        if os.getuid() == 0:  # an installed service makes it
            Path("/run/sshd").mkdir(exist_ok=True)
        log = (folder / "log").open("w")
        self.process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=log)
        deadline = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert self.process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.known_hosts = folder / "known_hosts"
        self.board = folder / "board"
        self.settings = [
            "address=127.0.0.1",
            f"port={port}",
            f"identity={folder / 'key'}",
            f"options=UserKnownHostsFile={self.known_hosts},StrictHostKeyChecking=accept-new,"
            "LogLevel=ERROR",
            f"folder={self.board}",
            f"python={sys.executable}",
            "install=false",
        ]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()

    def measuring(self) -> list[int]:
        """The processes of the latency program that it measures with."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                place = (entry / "cwd").readlink()
            except OSError:
                continue
            if place == self.board / "run" and words[1:3] == [b"-m", b"benchmarks"]:
                found.append(int(entry.name))
        return found


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    monkeypatch.chdir(tmp_path)
    server = Server(tmp_path)
    yield server
    server.close()


def add(server: Server, *changes: str, name: str = "pi") -> None:
    """Adds the board, with some settings changed."""
    settings = dict(text.split("=", 1) for text in (*server.settings, *changes))
    texts = [f"{key}={value}" for key, value in settings.items()]
    definitions.add(Path("boards.toml"), name, "ssh", texts, KINDS)


def elite(capsys, *arguments: object) -> tuple[int, str, str]:
    status = cli.main(["boards", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def fault(capsys, *arguments: object) -> str:
    """The one line that a run on a faulty board ends with."""
    status, out, err = elite(capsys, "run", *arguments)
    assert (status, out, err.count("\n")) == (1, "model\n", 1)
    return err.removeprefix("elite boards: pi: ").rstrip("\n")


def test_a_board_is_measured_and_not_again(server, capsys, tmp_path):
    light, heavy = models(tmp_path)
    add(server)
    status, out, _ = elite(capsys, "check")
    assert status == 0
    version = "{}.{}".format(*sys.version_info)
    assert f"Linux {os.uname().machine}, Python {version}, " in out
    status, out, err = elite(capsys, "run", light, heavy, "--runs=5", "--json=a.json")
    assert (status, err.splitlines()[0]) == (0, "pi: measured")
    (board,) = json.loads(Path("a.json").read_text())["boards"]
    assert [row["model"] for row in board["rows"]] == [str(light), str(heavy)]
    assert board["rows"][1]["ratio"] > 2
    assert board["options"]["runs"] == 5
    assert sorted(path.name for path in (server.board / "run").iterdir()) == [
        "benchmarks",
        "models",
    ]
    server.close()  # what was measured needs no board
    assert "pi: measured already" in elite(capsys, "run", light, heavy, "--runs=5")[2]


def test_two_boards_on_one_machine_follow_one_another(server, capsys, tmp_path):
    light, _ = models(tmp_path)
    usable = sorted(map(str, os.sched_getaffinity(0)))
    cores = [usable[0], usable[-1]]
    for name, core in zip(("little", "big"), cores, strict=True):
        add(server, f"cores={core}", name=name)
    assert elite(capsys, "run", light, "--runs=5", "--json=a.json")[0] == 0
    boards = json.loads(Path("a.json").read_text())["boards"]
    assert [board["conditions"]["affinity"] for board in boards] == cores
    assert boards[0]["measured_at"] < boards[1]["measured_at"]


@pytest.fixture
def second_user(monkeypatch) -> Iterator[tuple[Server, str, Path]]:
    """A server in a folder that everybody can read, another user of this machine, and its home."""
    if os.getuid() != 0 or shutil.which("useradd") is None:
        pytest.skip("no right to add a user, or no useradd")
    name = f"elite-{os.getpid()}"
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    folder.chmod(0o755)
    home = folder / "home"
    subprocess.run(["useradd", "-m", "-d", home, "-s", "/bin/sh", "-p", "*", name], check=True)
    server = None
    try:
        python, packages = _of_everybody(name)
        monkeypatch.chdir(folder)
        server = Server(folder)
        wrapper = folder / "programs" / "python-of-everybody"
        wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {python} "$@"\n')
        wrapper.chmod(0o755)
        server.settings = [
            f"address={name}@127.0.0.1" if text.startswith("address=") else text
            for text in server.settings
            if not text.startswith(("folder=", "python="))
        ]
        server.settings.append("python=python-of-everybody")
        yield server, name, home
    finally:
        if server is not None:
            server.close()
        subprocess.run(["userdel", "-f", name], check=True, capture_output=True)
        shutil.rmtree(folder)


def _of_everybody(user: str) -> tuple[str, Path]:
    """A Python and a folder of packages that a user may read; skips where there are none."""
    python, packages = f"/usr/bin/python3.{sys.version_info.minor}", Path(absl.__file__).parents[1]
    try:
        subprocess.run(
            [python, "-c", "import ai_edge_litert.interpreter, numpy, absl"],
            user=user,
            group=user,
            extra_groups=[],
            cwd="/",
            env={"PYTHONPATH": str(packages)},
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"another user has no {python} that can read the packages in {packages}")
    return python, packages


def test_a_board_under_another_user(second_user, capsys):
    server, name, home = second_user
    light, heavy = models(server.folder)
    add(server)
    assert elite(capsys, "check")[0] == 0
    status, out, err = elite(capsys, "run", light, heavy, "--runs=5")
    assert (status, err.splitlines()[0]) == (0, "pi: measured")
    assert out.splitlines()[0].split() == ["model", "pi", "ms"]
    copied = home / ".cache/elite-boards/run/models/0" / light.name
    assert copied.read_bytes() == light.read_bytes()
    assert copied.owner() == name
    # What the user may not write costs the board's rows, and one line.
    text = Path("boards.toml").read_text()
    (server.folder / "of-root").mkdir(mode=0o755)
    Path("boards.toml").write_text(f'{text}folder = "{server.folder}/of-root/board"\n')
    assert "Permission denied" in fault(capsys, light)
    assert not list((server.folder / "of-root").iterdir())


def test_another_host_key(server, capsys, tmp_path):
    light, _ = models(tmp_path)
    other = (tmp_path / "key.pub").read_text().split()[1]
    port = next(text for text in server.settings if text.startswith("port=")).split("=")[1]
    server.known_hosts.write_text(f"[127.0.0.1]:{port} ssh-ed25519 {other}\n")
    add(server)
    assert fault(capsys, light) == "no connection: Host key verification failed"


def test_another_user_s_key(server, capsys, tmp_path):
    light, _ = models(tmp_path)
    add(server, f"identity={tmp_path / 'host_key'}")
    assert fault(capsys, light).startswith("no connection: ")
    assert "Permission denied (publickey" in elite(capsys, "check")[1]


def test_no_python(server, capsys, tmp_path):
    light, _ = models(tmp_path)
    add(server, "python=python-of-nobody")
    assert fault(capsys, light) == (
        "no python-of-nobody there: install Python 3.9 or newer (apt-get install python3-venv), "
        "or set `python`"
    )


def replaced(server: Server, name: str, answer: str) -> None:
    """Puts a program in the place of another one of the board."""
    path = server.folder / "programs" / name
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)


def test_an_old_python(server, capsys, tmp_path):
    light, _ = models(tmp_path)
    replaced(server, "python-of-2018", "3.7")
    add(server, "python=python-of-2018")
    assert fault(capsys, light) == "its Python is 3.7, and 3.9 is the oldest that works"


def test_a_processor_without_packages(server, capsys, tmp_path):
    light, _ = models(tmp_path)
    replaced(server, "uname", "armv6l")
    add(server)
    assert fault(capsys, light) == (
        "there is no LiteRT package for armv6l: set `wheels` to a folder that has one"
    )


@pytest.mark.slow
def test_packages_that_are_not_to_be_had(server, capsys, tmp_path):
    light, _ = models(tmp_path)
    (tmp_path / "wheels").mkdir()
    add(server, "install=true", "wheels=wheels", "packages=nothing-of-this-name")
    assert fault(capsys, light) == (
        "its packages cannot be installed: ERROR: No matching distribution found for "
        "nothing-of-this-name"
    )
    (environment,) = server.board.glob("environment-*")
    assert not (environment / "ready").exists()


def test_no_litert(server, capsys, tmp_path):
    light, _ = models(tmp_path)
    python = server.folder / "programs" / "bare-python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # without its packages
    python.chmod(0o755)
    add(server, "python=bare-python")
    assert fault(capsys, light).startswith("the program failed: ModuleNotFoundError: No module")


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(server, capsys, tmp_path, small_disk):
    light, _ = models(tmp_path)
    add(server, f"folder={small_disk}/board")
    assert fault(capsys, light) == (
        "only 1 MB are free there, and 2 MB are needed: make room or set `folder` to another disk"
    )
    replaced(server, "df", "filesystem blocks used available\\nx 9 0 9000000 0% /")
    (small_disk / "filling").write_bytes(bytes(1_000_000))
    assert fault(capsys, light).startswith("files cannot be copied: tar: ")


def interrupted(
    server: Server, capsys, arguments: list[object], end: Callable[[], None]
) -> tuple[int, str, str]:
    """Runs the command, and calls a function once the program runs on the board."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while not server.measuring() and time.monotonic() < deadline:
            time.sleep(0.05)
        end()

    thread = threading.Thread(target=wait)
    thread.start()
    answer = elite(capsys, "run", *arguments)
    thread.join()
    return answer


def test_a_program_that_is_killed_costs_its_board_alone(server, capsys, tmp_path):
    light, heavy = models(tmp_path)
    add(server)
    definitions.add(Path("boards.toml"), "here", "local", [], KINDS)

    def end() -> None:
        for process in server.measuring():
            os.kill(process, signal.SIGKILL)

    run = [light, heavy, "--runs=300"]
    status, out, err = interrupted(server, capsys, run, end)
    assert status == 1
    assert out.splitlines()[0].split() == ["model", "here", "ms"]
    assert "elite boards: pi: the program was ended by SIGKILL\n" in err
    status, out, err = elite(capsys, "run", *run)
    assert status == 0
    assert out.splitlines()[0].split() == ["model", "pi", "ms", "here", "ms"]
    assert err.startswith("here: measured already") and "pi: measured\n" in err


def test_a_connection_that_breaks(server, capsys, tmp_path):
    light, heavy = models(tmp_path)
    add(server)

    def end() -> None:
        parents = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                text = status.read_text()
            except OSError:
                continue
            parents[int(status.parent.name)] = int(text.rpartition(")")[2].split()[1])
        session = [pid for pid, parent in parents.items() if parent == server.process.pid]
        for process in session:
            os.kill(process, signal.SIGKILL)

    status, _, err = interrupted(server, capsys, [light, heavy, "--runs=300"], end)
    for process in server.measuring():  # it goes on without its session
        os.kill(process, signal.SIGKILL)
    assert status == 1
    assert err.count("\n") == 1
    assert err.startswith(
        ("elite boards: pi: no connection: ", "elite boards: pi: the connection broke")
    )


@pytest.mark.slow
def test_the_environment_is_made_once(server, capsys, tmp_path):
    """With packages of an index, in an environment of its own."""
    light, heavy = models(tmp_path)
    add(server, "install=true")
    status, out, err = elite(capsys, "run", light, heavy, "--runs=5")
    if "its packages cannot be installed" in err:
        pytest.skip(f"pip reaches no package index: {err}")
    assert (status, out.splitlines()[0].split()) == (0, ["model", "pi", "ms"])
    (environment,) = server.board.glob("environment-*")
    made = (environment / "ready").stat().st_mtime_ns
    assert "its packages are there" in elite(capsys, "check")[1]
    assert elite(capsys, "run", light, "--runs=5")[0] == 0
    assert (environment / "ready").stat().st_mtime_ns == made
