"""Workers on a Ray cluster with a shared work directory. Only Ray core actors are used.

What a worker has done is kept in checkpoints, not in Ray. An actor that dies, alone or with its
node, is created again wherever there is room, and the driver gives its work item to a free slot.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.search.workdir import worker_lock

from .pool import portable
from .protocol import EpochDone, Event, Executor, Finished, Lost, OnEvent, Ready, Stepped, WorkItem

_NODE_DIED = "node has died"  # part of Ray's message if the node, not the actor, was the cause
_STARTS = 3  # failed starts, with no message from any actor in between, until the search ends


class RayCluster:
    """Actors on a cluster, with one slot each.

    Args:
      make: called in each actor with its slot; returns the executor (of a single slot, number 0)
        that trains there.
      workers: number of actors; None for one per CPU of the cluster. Actors for which there is no
        room wait until there is.
      workdir: work directory, at the same path on every node; the actors hold its `worker_lock`.
      address: address of the cluster; None for one that runs on this machine, or else a new one.

    Raises:
      UserError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(
        self,
        make: Callable[[int], Executor],
        workers: int | None,
        workdir: Path,
        address: str | None = None,
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError(
                'Ray is not installed: pip install "efficientnet-elite[ray]"'
            ) from error
        self._ray: Any = ray
        try:
            _check_address(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise UserError(f"no Ray cluster at {address}: {first}") from error
        resources = ray.cluster_resources()
        slots = workers or max(1, int(resources.get("CPU", 1)))
        share = min(1.0, resources.get("GPU", 0.0) / slots)  # several actors may share a GPU
        self._actor = self._ray.remote(num_cpus=1, num_gpus=share, max_restarts=0)(_Worker)
        self._make, self._workdir = make, workdir
        self._vain = 0  # failed starts since the last message from any actor
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, tuple[int, WorkItem | None]] = {}  # None: the call of `prepare`
        for slot in range(slots):
            self._start(slot)

    def _start(self, slot: int) -> None:
        self._actors[slot] = actor = self._actor.remote()
        self._calls[actor.prepare.remote(self._make, slot, self._workdir)] = slot, None

    def submit(self, slot: int, item: WorkItem) -> None:
        """See `Executor.submit`. Each call trains one epoch, so that it is reported at once."""
        until = min(item.done + 1, item.until_epoch)
        measured = item.int8_at_end and until == item.until_epoch
        call = self._actors[slot].run.remote(replace(item, until_epoch=until, int8_at_end=measured))
        self._calls[call] = slot, item

    def retire(self, slot: int, name: str) -> None:
        """See `Executor.retire`."""
        self._actors[slot].retire.remote(name)

    def wait(self, on_event: OnEvent) -> None:
        """See `Executor.wait`."""
        (call, *_), _ = self._ray.wait(list(self._calls), num_returns=1)
        slot, item = self._calls.pop(call)
        try:
            events = self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            raise portable(error.cause) from None
        except self._ray.exceptions.RayError as error:  # the actor has died
            self._replace(slot, item, str(error).strip(), on_event)
            return
        self._vain = 0
        if item is None:
            on_event(slot, Ready())
            return
        epochs = [event.result.epoch for event in events if isinstance(event, EpochDone)]
        reached = max(epochs, default=item.done)
        unfinished = reached < item.until_epoch and isinstance(events[-1], Finished)
        for event in events[:-1] if unfinished else events:
            on_event(slot, event)
        if unfinished:
            self.submit(slot, replace(item, done=max(reached, item.done)))

    def _replace(self, slot: int, item: WorkItem | None, message: str, on_event: OnEvent) -> None:
        reason = message.splitlines()[0]
        self._vain += item is None
        if self._vain == _STARTS:
            raise UserError(f"workers cannot be started on the cluster: {reason}")
        self._start(slot)
        on_event(slot, Lost(reason, blameless=_NODE_DIED in message))

    def close(self) -> None:
        """See `Executor.close`."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._ray.shutdown()


def _check_address(address: str | None) -> None:
    """OSError where nothing listens at the address; Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


class _Worker:
    """The class of the actors: an executor of one slot, and the lock of the work directory."""

    def __init__(self) -> None:
        self._held = ExitStack()  # until the process ends

    def prepare(self, make: Callable[[int], Executor], slot: int, workdir: Path) -> None:
        self._held.enter_context(worker_lock(workdir))
        self._executor = make(slot)

    def run(self, item: WorkItem) -> list[Event]:
        events: list[Event] = []

        def keep(_: int, event: Event) -> None:
            if not isinstance(event, Stepped):
                events.append(event)

        self._executor.submit(0, item)
        self._executor.wait(keep)
        return events

    def retire(self, name: str) -> None:
        self._executor.retire(0, name)
