"""Checkpoints written while training goes on: a snapshot of the state, and one thread that writes it.

Training waits for the snapshot alone, a copy on the device that the state is on.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixmo_fast.training.checkpoint import Checkpoint, save_checkpoint


class CheckpointWriter:
    """Writes one checkpoint after the other, as `save_checkpoint` does, in a thread of its own.

    As a context manager it waits for the writing at the end of the block, whatever ends that.

    Args:
        device: Where the state is.
    """

    def __init__(self, device: torch.device):
        # One worker: files are replaced in the order of the epochs.
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._pending: Future[None] | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait()
        finally:
            self._thread.shutdown()  # waits as well, should the user lose patience with the first

    def save(self, checkpoint: Checkpoint, path: Path, aliases: Sequence[Path] = ()) -> None:
        """Takes a snapshot and has it written; the one before is written by then.

        Raises:
            CheckpointError: When the one before could not be written.
        """
        self.wait()  # memory holds two copies of the state, never three
        snapshot = _mapped(vars(checkpoint), Tensor.clone)
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        self._pending = self._thread.submit(self._write, snapshot, path, aliases)

    def check(self) -> None:
        """Looks whether something went wrong in the meantime, without waiting.

        Raises:
            CheckpointError: When a checkpoint could not be written.
        """
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Returns once everything is written.

        Raises:
            CheckpointError: When it could not be.
        """
        if self._pending is not None:
            pending = self._pending
            pending.exception()  # an interruption here leaves it pending
            self._pending = None
            pending.result()

    def _write(self, snapshot: dict[str, Any], path: Path, aliases: Sequence[Path]) -> None:
        if self._stream is not None:
            # On a stream of its own, training's kernels do not queue behind the copies.
            with torch.cuda.stream(self._stream):
                snapshot = _mapped(snapshot, Tensor.cpu)
        save_checkpoint(Checkpoint(**snapshot), path, aliases)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nesting of dictionaries and lists, with every tensor in it changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(entry, change) for key, entry in value.items()}
    if isinstance(value, list):
        return [_mapped(entry, change) for entry in value]
    return value
