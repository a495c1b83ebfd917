"""Workers on a Ray cluster with a shared work directory. Only Ray core actors are used.

What a worker has done is kept in checkpoints, not in Ray. An actor that dies, alone or with its
node, is created again wherever there is room, and the driver gives its work item to a free slot.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from efficientnet_elite.config import RAY_PATIENCE
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.workdir import worker_lock

from .pool import portable
from .protocol import (
    EpochDone,
    Event,
    Executor,
    Finished,
    Lost,
    OnEvent,
    Ready,
    Stepped,
    Warned,
    WorkItem,
)

# Parts of Ray's message if a node, not the actor, was the cause: the actor's, or the driver's own.
_NODE_DIED = ("node has died", "owner has died")
_STARTS = 3  # failed starts, with no message from any actor in between, until the search ends
_LOOK_SECONDS = 5.0  # between two looks at the cluster
# Silence of the head after which the search ends. Ray itself kills the process after 60 seconds.
_HEAD_SECONDS = 30.0
_CONTINUE = "then the same command continues from here"


class RayCluster:
    """Actors on a cluster, with one slot each.

    Args:
      make: called in each actor with its slot; returns the executor (of a single slot, number 0)
        that trains there.
      workers: number of actors; None for one per CPU of the cluster. Actors for which there is no
        room wait until there is.
      workdir: work directory, at the same path on every node; the actors hold its `worker_lock`.
      address: address of the cluster; None for one that runs on this machine, or else a new one.
      patience: seconds to wait for new nodes when no node is left that could run a worker.
      environment: variables that the actors' processes have.

    Attributes:
      slots: see `Executor`.

    Raises:
      UserError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(
        self,
        make: Callable[[int], Executor],
        workers: int | None,
        workdir: Path,
        address: str | None = None,
        *,
        patience: float = RAY_PATIENCE,
        environment: Mapping[str, str] | None = None,
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
        self.slots = workers or max(1, int(resources.get("CPU", 1)))
        share = min(1.0, resources.get("GPU", 0.0) / self.slots)  # several actors may share a GPU
        self._head = _reachable_head(ray)
        self._share, self._patience = share, patience
        self._deserted: float | None = None  # since when no node can run a worker
        self._headless: float | None = None  # since when the head does not answer
        self._look_at = time.monotonic()  # when the head is looked at again
        self._actor = self._ray.remote(
            num_cpus=1,
            num_gpus=share,
            max_restarts=0,
            runtime_env={"env_vars": dict(environment or {})},
        )(_Worker)
        self._make, self._workdir = make, workdir
        self._vain = 0  # failed starts since the last message from any actor
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, tuple[int, WorkItem | None]] = {}  # None: the call of `prepare`
        for slot in range(self.slots):
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
        """See `Executor.wait`.

        Raises:
          UserError: no node has been able to run a worker for the time of the patience, or the head
            of the cluster does not answer any more.
        """
        done, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=_LOOK_SECONDS)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_SECONDS
            self._check_head()
        if not done:
            self._check_nodes(on_event)
            return
        (call,) = done
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
        node_died = any(text in message for text in _NODE_DIED)
        self._vain += item is None and not node_died
        if self._vain == _STARTS:
            raise UserError(f"workers cannot be started on the cluster: {reason}")
        self._start(slot)
        on_event(slot, Lost(reason, blameless=node_died))

    def _check_head(self) -> None:
        """UserError where the head has not answered for a while.

        Ray would end this process without a word to the user.
        """
        if self._head is None:
            return
        try:
            _connect(self._head)
        except OSError as error:
            now = time.monotonic()
            self._headless = now if self._headless is None else self._headless
            if now - self._headless >= _HEAD_SECONDS:
                raise UserError(
                    f"the head of the Ray cluster at {self._head} does not answer any more "
                    f"({error}): start it again, {_CONTINUE}"
                ) from error
        else:
            self._headless = None

    def _check_nodes(self, on_event: OnEvent) -> None:
        """A message where no node can run a worker, and a UserError once that has lasted.

        Where workers only wait for others to leave room, there are nodes.
        """
        if self._headless is not None:  # a head that does not answer knows no nodes
            return
        now = time.monotonic()
        if any(map(self._can_work, self._ray.nodes())):
            if self._deserted is not None:
                on_event(0, Warned("the Ray cluster has nodes for workers again"))
            self._deserted = None
        elif self._deserted is None:
            self._deserted = now
            text = "no node of the Ray cluster can run a worker any more; the search waits"
            on_event(0, Warned(f"{text} {self._patience:g} s for new ones (--ray_patience)"))
        elif now - self._deserted >= self._patience:
            raise UserError(
                "no node of the Ray cluster can run a worker any more, and none has joined within "
                f"ray_patience={self._patience:g} seconds: start nodes, {_CONTINUE}"
            )

    def _can_work(self, node: dict[str, Any]) -> bool:
        """Whether a node, as Ray describes it, has what a worker needs, be it in use or not."""
        resources = node["Resources"]
        enough = resources.get("CPU", 0) >= 1 and resources.get("GPU", 0) >= self._share
        return bool(node["Alive"] and enough)

    def close(self) -> None:
        """See `Executor.close`. Without its head, Ray would wait for it until it ends the process.

        Workers end with their nodes, and those end without a head.
        """
        if self._headless is not None:
            return
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._ray.shutdown()


def _check_address(address: str | None) -> None:
    """OSError where nothing listens at the address; Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit() and "/" not in host:
        _connect(address or "")


def _reachable_head(ray: Any) -> str | None:
    """HOST:PORT of the cluster's head; None where only a proxy reaches it, as for a Ray client."""
    try:
        address = str(ray.get_runtime_context().gcs_address)
        _connect(address)
    except (OSError, ValueError, AttributeError):
        return None
    return address


def _connect(address: str) -> None:
    """OSError where nothing listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


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
