"""Signals that ask a training to stop: it finishes its step, saves where it is, and ends.

What schedulers of machines send before they take one away: SIGTERM (Kubernetes, `docker stop`, spot instances, SLURM at
the end of the time) and SIGUSR1 (SLURM's `--signal`, ahead of it).
"""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
EXIT_CODE = 128 + signal.SIGTERM
"""Of a process that ends so; SIGUSR1's, too, since it asks for the same."""


@dataclass
class StopRequest:
    """Whether somebody has asked.

    Attributes:
        by: The signal's name; None until there was one.
    """

    by: str | None = None


class Often:
    """A clock that says when some minutes have passed since it last said so.

    Args:
        minutes: None: never.
    """

    def __init__(self, minutes: float | None):
        self._seconds = math.inf if minutes is None else 60 * minutes
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether they have; if so, it begins anew."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Notes the first signal instead of dying of it; a second one does what it would have done without this.

    In a thread, where Python lets nobody handle signals, nothing is changed.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, _: FrameType | None) -> None:
        request.by = signal.Signals(number).name
        put_back()

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield request
    finally:
        put_back()
