"""Opens pages in headless Chromium, served by this process, and returns what they send back.

The browser is the isolation: whatever a page does with a file from an unknown source happens in its
sandbox. It has a profile of its own, reaches no network but this process's server, and is stopped
after a time limit.
"""

from __future__ import annotations

import contextlib
import mimetypes
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from efficientnet_elite.errors import UserError

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Path to which a page POSTs its answer.
ANSWER = "/answer"

_MAX_ANSWER_BYTES = 256 << 20
_POLL_SECONDS = 0.2
_END_SECONDS = 5.0  # how long to wait for the browser's child processes to end
# With these headers a page's clock has a resolution of 5 microseconds instead of 100.
_ISOLATION_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
# Browsers refuse modules and WebAssembly of any other media type, and the operating system's table,
# which `mimetypes` reads, may have another one.
_TYPES = {".js": "text/javascript", ".wasm": "application/wasm"}
_FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # /dev/shm is small in containers
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def program() -> str | None:
    """Path of an installed Chromium or Chrome; None if there is none, and on Windows.

    There its processes could not be ended together (`_running`).
    """
    if sys.platform == "win32":
        return None
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def ask(files: Mapping[str, bytes], page: str, *, timeout: float, isolated: bool = False) -> bytes:
    """Opens a page and returns what it POSTs to `ANSWER`.

    Args:
      files: the contents that are served, by path, such as ``index.html``; nothing else is served.
      page: one of these paths, with or without a query.
      timeout: seconds from the start of the browser to the answer.
      isolated: whether to isolate the page from other origins, which gives it a finer clock.

    Returns:
      The bytes that the page sent.

    Raises:
      UserError: no browser is installed, it ended without an answer, or it took too long.
    """
    browser = program()
    if browser is None or sys.platform == "win32":
        raise UserError(
            f"no browser is installed: none of {', '.join(PROGRAMS)} is found; install Chromium"
        )
    answers: queue.Queue[bytes] = queue.Queue()
    with (
        _served(files, answers, _ISOLATION_HEADERS if isolated else {}) as port,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
    ):
        # Chromium refuses to start as root, as in most containers, unless its sandbox is off.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        url = f"http://127.0.0.1:{port}/{page}"
        command = [
            # Chromium leaves a folder of temporary files, which is then removed with this one.
            *("env", f"TMPDIR={folder}"),
            *(browser, *_FLAGS, *sandbox, f"--user-data-dir={folder}/profile", url),
        ]
        log = Path(folder, "log")
        with _running(command, log) as process:
            return _wait(process, answers, timeout, log)


def _wait(
    process: subprocess.Popen[bytes], answers: queue.Queue[bytes], timeout: float, log: Path
) -> bytes:
    """Waits for the page's answer; UserError if the browser ends or takes too long."""
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(queue.Empty):
            return answers.get(timeout=min(_POLL_SECONDS, left))
        if process.poll() is not None:
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
            printed = (line.strip() for line in reversed(lines) if line.strip())
            last = next(printed, "it printed no reason")
            raise UserError(f"the browser ended with status {process.returncode}: {last}")
    raise UserError(f"the browser took longer than {timeout:g} s and was stopped")


@contextlib.contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a process that ends with the context, together with its children."""
    if sys.platform == "win32":
        raise NotImplementedError("see `program`")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            # Its children cannot be waited for, but they may write files as long as they live.
            deadline = time.monotonic() + _END_SECONDS
            while time.monotonic() < deadline:
                os.killpg(process.pid, 0)
                time.sleep(_POLL_SECONDS / 10)


@contextlib.contextmanager
def _served(
    files: Mapping[str, bytes], answers: queue.Queue[bytes], headers: Mapping[str, str]
) -> Iterator[int]:
    """Serves files to this machine only, and puts what is POSTed to `ANSWER` into a queue.

    Yields:
      The port.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path.partition("?")[0].lstrip("/"))
            if content is None:
                self.send_error(404)
                return
            self._send(content, media_type(self.path.partition("?")[0]))

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            if self.path != ANSWER or length > _MAX_ANSWER_BYTES:
                self.send_error(404)
                return
            answers.put(self.rfile.read(length))
            self._send(b"", "text/plain")

        def _send(self, content: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass  # lines on stderr would disturb the progress bars

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def media_type(path: str) -> str:
    """The media type of a file, such as ``text/javascript``."""
    guessed = mimetypes.guess_type(path)[0] or "application/octet-stream"
    return _TYPES.get(Path(path).suffix, guessed)
