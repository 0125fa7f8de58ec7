"""TensorBoard's events of a run: a convenience beside `metrics.jsonl`, which training can do without.

Written here and not by torch's `SummaryWriter`, whose thread prints a traceback when a disk is full, and whose errors
surface at some later call or never.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mixmo_fast.files import open_own, reason


class Events:
    """A file of events; the first one that cannot be written is told, and the last that is tried.

    What is in the file stays whole.

    Args:
        folder: Of files of events, made if need be.
        first_step: From which on those of earlier files are hidden.
        notify: Told in one line why there are no more events.
    """

    def __init__(self, folder: Path, first_step: int, notify: Callable[[str], None]):
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self._notify = notify
        # TensorBoard reads what has `tfevents` in its name, in the order of names; a run may be stopped and gone on
        # with within a second.
        mark = f"{time.time_ns():019d}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
        self._path = folder / f"events.out.tfevents.{mark}"
        self._file: int | None = None
        self._whole_bytes = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open_own(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        except OSError as error:
            self._end(error)
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def add(self, summary: Any, step: int = 0) -> None:
        """Appends a `Summary`, as `torch.utils.tensorboard.summary` makes them.

        Args:
            summary: A scalar, a picture or what else there is.
            step: Of which it is, counted from 1: an epoch, or a step of the run.
        """
        from tensorboard.compat.proto.event_pb2 import Event

        self._write(Event(step=step, summary=summary))

    def add_point(self, name: str, value: float, step: int) -> None:
        """Appends a point of a curve; what is before a slash in its name is its group."""
        from torch.utils.tensorboard.summary import scalar  # takes a second to import

        self.add(scalar(name, value), step)

    def close(self) -> None:
        """Lets the file go; what comes later is dropped."""
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
            self._file = None

    def _write(self, event: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        event.wall_time = time.time()
        RecordWriter(self).write(event.SerializeToString())

    def write(self, record: bytes) -> None:
        """What `RecordWriter` needs of a file: appends a record, or nothing of it."""
        if self._file is None:
            return
        try:
            left = memoryview(record)
            while left:
                left = left[os.write(self._file, left) :]
            self._whole_bytes += len(record)
        except OSError as error:
            self._end(error)

    def _end(self, error: OSError) -> None:
        if self._file is not None:
            with suppress(OSError):
                os.ftruncate(self._file, self._whole_bytes)
        self.close()
        self._notify(f"{self._path}: cannot write: {reason(error)}; training goes on without TensorBoard's events")
