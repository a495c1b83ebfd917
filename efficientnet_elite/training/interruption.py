"""Signals that end a program, held back while something is computed that must not be torn."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_ENDING = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]  # Windows has no HUP


class HeldSignals:
    """Signals that have arrived and wait, see `held_signals`."""

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, FrameType | None], object]] = {}
        self._waiting: list[int] = []

    @property
    def arrived(self) -> bool:
        """Whether a signal waits."""
        return bool(self._waiting)

    def deliver(self) -> None:
        """Hands the signals that wait to their handlers, which mostly raise KeyboardInterrupt."""
        while self._waiting:
            number = self._waiting.pop()
            self._handlers[number](number, None)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self._waiting:  # the user insists
            self._waiting.clear()
            self._handlers[number](number, frame)
        else:
            self._waiting.append(number)

    def _begin(self) -> None:
        for number in _ENDING:
            handler = signal.getsignal(number)
            if callable(handler):  # others end the process at once, or are ignored
                try:
                    signal.signal(number, self._hold)
                except ValueError:  # signals are the main thread's matter
                    return
                self._handlers[number] = handler

    def _end(self) -> None:
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == self._hold:  # a handler may have set another
                signal.signal(number, handler)


@contextmanager
def held_signals() -> Iterator[HeldSignals]:
    """Context in which Ctrl-C, TERM and HUP wait until `HeldSignals.deliver`, or its end.

    Only the first one waits: a second one is delivered at once. Signals without a handler in Python
    are not held, nor are any outside of the main thread.
    """
    held = HeldSignals()
    held._begin()
    try:
        yield held
    finally:
        held._end()
        held.deliver()
