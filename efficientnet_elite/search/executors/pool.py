"""A pool of worker processes on one machine. Each holds an executor of its own, behind a pipe."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.search.workdir import worker_lock
from efficientnet_elite.text import signal_name

from .protocol import Event, Executor, Lost, OnEvent, WorkItem

LOG_FILE = "workers.log"  # in the work directory: output of TensorFlow and the workers
_STARTS = 3  # failed starts, with no message from any worker in between, until the search ends
_SPAWN = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork


@dataclass(frozen=True)
class _Worker:
    process: SpawnProcess
    pipe: Any  # a Connection; Windows has another class


def _nothing() -> None:
    """The default of what a worker does first."""


class ProcessPool:
    """A number of worker processes with one slot each. One that dies is replaced at once.

    Args:
      make: called in each worker with its slot; returns the executor (of a single slot, number 0)
        that trains there. It must be possible to pickle it.
      workers: number of processes.
      workdir: work directory; workers hold its `worker_lock` and write their log into it.
      begin: called in each worker first, before ``make`` is unpickled, which imports modules.

    Attributes:
      slots: see `Executor`.
    """

    def __init__(
        self,
        make: Callable[[int], Executor],
        workers: int,
        workdir: Path,
        *,
        begin: Callable[[], None] = _nothing,
    ) -> None:
        self._make, self._begin, self._workdir = pickle.dumps(make), begin, workdir
        self.slots = workers
        self._starting: set[int] = set()
        self._vain = 0  # failed starts since the last message from any worker
        self._workers: dict[int, _Worker] = {}
        for slot in range(workers):
            self._start(slot)

    def _start(self, slot: int) -> None:
        self._starting.add(slot)
        pipe, other_end = _SPAWN.Pipe()
        process = _SPAWN.Process(
            target=_serve,
            args=(self._begin, self._make, slot, self._workdir, other_end),
            daemon=True,
        )
        process.start()
        other_end.close()  # so that the pipe ends with the worker
        self._workers[slot] = _Worker(process, pipe)

    def submit(self, slot: int, item: WorkItem) -> None:
        """See `Executor.submit`."""
        self._send(slot, item)

    def retire(self, slot: int, name: str) -> None:
        """See `Executor.retire`."""
        self._send(slot, name)

    def _send(self, slot: int, message: WorkItem | str) -> None:
        with suppress(OSError):  # it has died, which `wait` will notice
            self._workers[slot].pipe.send(message)

    def wait(self, on_event: OnEvent) -> None:
        """See `Executor.wait`."""
        slots = {worker.pipe: slot for slot, worker in self._workers.items()}
        for pipe in wait(list(slots)):
            assert isinstance(pipe, Connection)
            slot = slots[pipe]
            try:
                message = pipe.recv()
            except (EOFError, OSError):  # all that it had sent has been read
                self._replace(slot, on_event)
                continue
            if isinstance(message, Exception):
                raise message
            self._vain = 0
            self._starting.discard(slot)  # its first message is that it is ready
            on_event(slot, message)

    def _replace(self, slot: int, on_event: OnEvent) -> None:
        worker = self._workers[slot]
        worker.pipe.close()
        worker.process.join()
        reason = _ended(worker.process.exitcode)
        self._vain += slot in self._starting
        if self._vain == _STARTS:
            raise UserError(f"workers cannot be started ({reason}): {self._advice()}")
        self._start(slot)
        on_event(slot, Lost(reason))

    def _advice(self) -> str:
        log = self._workdir / LOG_FILE
        if log.exists():
            return f"see {log}"
        # They ended before they opened it, while they imported the program that searches.
        return (
            "each worker imports your program again, so keep it in a file, and start the search "
            'in it under `if __name__ == "__main__":`'
        )

    def close(self) -> None:
        """See `Executor.close`. Workers can be killed: checkpoints are replaced atomically."""
        for worker in self._workers.values():
            worker.process.kill()
        for worker in self._workers.values():
            worker.process.join()
            worker.pipe.close()


def _ended(status: int | None) -> str:
    if status == -9:  # SIGKILL, which Windows does not have
        return "killed, out of memory?"
    if status is not None and status < 0:
        return f"ended by {signal_name(-status)}"
    return f"ended with status {status}"


def _serve(
    begin: Callable[[], None], make: bytes, slot: int, workdir: Path, pipe: Connection
) -> None:
    """What a worker process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's
    threading.Thread(target=_end_with_the_driver, daemon=True).start()
    with (workdir / LOG_FILE).open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)

    def send(_: int, event: Event) -> None:
        pipe.send(event)

    with worker_lock(workdir):
        # Only now is it certain that no other driver comes in between.
        driver = multiprocessing.parent_process()
        if driver is None or not driver.is_alive():
            return
        try:
            begin()
            executor: Executor = pickle.loads(make)(slot)
            executor.wait(send)
            while True:
                message = pipe.recv()
                if isinstance(message, WorkItem):
                    executor.submit(0, message)
                    executor.wait(send)
                else:
                    executor.retire(0, message)
        except EOFError:
            return
        except Exception as error:
            traceback.print_exc()
            pipe.send(portable(error))


def _end_with_the_driver() -> None:
    """Ends this worker with its driver, before workers of the next driver start to write."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        wait([driver.sentinel])
    os._exit(1)


def portable(error: Exception) -> Exception:
    """An error that can be sent to another process; errors for the user are sent as they are."""
    if isinstance(error, UserError | OSError):
        return error
    return RuntimeError("".join(traceback.format_exception(error)))
