"""Processes killed before any of their file operations: what has a name is whole, and the next one clears away.

The process is a copy of this one (`fork`), so that a thousand of them cost seconds; it kills itself by SIGKILL.
"""

import io
import os
import random
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import numpy as np
import torch

from benchmarks.faults.campaign import Campaign, Fault
from benchmarks.faults.commands import leftovers
from mixmo_fast.doctor.examine import write_json
from mixmo_fast.doctor.findings import Finding
from mixmo_fast.report.figures import plot_learning_curves
from mixmo_fast.report.run_report import write_report
from mixmo_fast.run.evaluate import save_predictions
from mixmo_fast.run.network_formats import FACTS, WEIGHTS, write_safetensors
from mixmo_fast.runfolder.history import read_history
from mixmo_fast.training.checkpoint import load_checkpoint, save_checkpoint
from pipelines.datasets.convert import convert

_OPERATIONS = (
    *("open", "write", "writelines", "flush", "close", "fsync", "replace", "rename", "link", "unlink", "remove"),
    *("mkdir", "rmdir", "tofile", "sendfile", "truncate", "utime", "chmod"),
)
_IN_MEMORY = (io.StringIO, io.BytesIO)


class Writer:
    """Something that is written where something older is.

    Attributes:
        weight: How often it is chosen.
    """

    weight: ClassVar[int] = 10

    def prepare(self, small: Path) -> None:
        """Reads what is to be written."""

    def older(self, folder: Path) -> None:
        """Writes what is there before."""

    def write(self, folder: Path) -> None:
        """Writes what comes after it; more than once gives the same."""

    def read(self, folder: Path) -> Mapping[str, object]:
        """Everything with a name, part by part; a torn one is an error."""
        paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths if not _is_hidden(path, folder)}


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


class _Checkpoints(Writer):
    weight = 40

    def prepare(self, small: Path) -> None:
        folder = small / "runs" / "small" / "checkpoints"
        self.epochs = [load_checkpoint(folder / f"epoch_000{epoch}.pt") for epoch in (1, 2)]

    def older(self, folder: Path) -> None:
        save_checkpoint(self.epochs[0], folder / "last.pt", [folder / "best.pt"])

    def write(self, folder: Path) -> None:
        save_checkpoint(self.epochs[1], folder / "last.pt", [folder / "best.pt", folder / "epoch_0002.pt"])


class _DataSet(Writer):
    weight = 5

    def older(self, folder: Path) -> None:
        convert("digits", folder, notify=lambda _: None)

    def write(self, folder: Path) -> None:
        convert("digits", folder, force=True, notify=lambda _: None)


class _NewDataSet(_DataSet):
    def older(self, folder: Path) -> None:
        """Nothing is there."""


class _Predictions(Writer):
    def prepare(self, small: Path) -> None:
        numbers = torch.arange(3000.0)
        self.both = [SimpleNamespace(logits=numbers * sign, labels=numbers.long()) for sign in (1, -1)]

    def older(self, folder: Path) -> None:
        save_predictions(cast(Any, self.both[0]), folder / "predictions.npz")

    def write(self, folder: Path) -> None:
        save_predictions(cast(Any, self.both[1]), folder / "predictions.npz")

    def read(self, folder: Path) -> Mapping[str, object]:
        with np.load(folder / "predictions.npz") as arrays:
            return {"predictions": b"".join(arrays[name].tobytes() for name in arrays.files)}


class _Findings(Writer):
    def older(self, folder: Path) -> None:
        write_json([Finding("machine", "older", "ok", "x")] * 100, folder / "doctor.json")

    def write(self, folder: Path) -> None:
        write_json([Finding("machine", "newer", "ok", "y")] * 100, folder / "doctor.json")


class _Picture(Writer):
    weight = 1

    def prepare(self, small: Path) -> None:
        self.history = read_history(small / "runs" / "small")

    def older(self, folder: Path) -> None:
        plot_learning_curves(self.history, "older", folder / "curves.png")

    def write(self, folder: Path) -> None:
        plot_learning_curves(self.history, "newer", folder / "curves.png")


class _Page(Writer):
    weight = 1

    def prepare(self, small: Path) -> None:
        self.run = small / "runs" / "small"

    def older(self, folder: Path) -> None:
        shutil.copytree(
            self.run, folder / "small", ignore=shutil.ignore_patterns("checkpoints", "tensorboard", "*.png")
        )
        write_report(folder / "small", [("older", "x")])

    def write(self, folder: Path) -> None:
        write_report(folder / "small", [("newer", "y")])


class _Safetensors(Writer):
    def prepare(self, small: Path) -> None:
        self.networks = [torch.nn.Linear(30, 30) for _ in range(2)]

    def older(self, folder: Path) -> None:
        self._export(0, folder)

    def write(self, folder: Path) -> None:
        self._export(1, folder)

    def read(self, folder: Path) -> Mapping[str, object]:
        from safetensors.torch import load_file

        tensors = load_file(folder / "network" / WEIGHTS)  # whose header is in any order
        weights = b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))
        return {WEIGHTS: weights, FACTS: (folder / "network" / FACTS).read_bytes()}

    def _export(self, which: int, folder: Path) -> None:
        facts = SimpleNamespace(as_dict=lambda: {"which": which}, as_words=lambda: {"which": str(which)})
        write_safetensors(cast(Any, self.networks[which]), cast(Any, facts), folder / "network")


WRITERS: dict[str, type[Writer]] = {
    "a checkpoint": _Checkpoints,
    "a data set over an older one": _DataSet,
    "a data set": _NewDataSet,
    "predictions": _Predictions,
    "findings": _Findings,
    "a picture": _Picture,
    "a page": _Page,
    "an exported network": _Safetensors,
}


class KillPoints(Campaign):
    """Whatever has a name is what was there before or what comes after it, and the next write leaves nothing else."""

    name = "killed"
    title = "processes killed before any of their file operations, while they write what users keep"
    inputs = 1_000
    seconds = 60.0

    def prepare(self, small: Path) -> None:
        """Has everything written once, and counts the operations."""
        self.writers = {name: kind() for name, kind in WRITERS.items()}
        self.counts: dict[str, int] = {}
        for name, writer in self.writers.items():
            writer.prepare(small)
            place = small / f"counting {name}"
            place.mkdir(exist_ok=True)
            writer.older(place)
            self.counts[name] = int(in_a_copy(lambda writer=writer, place=place: _count(lambda: writer.write(place))))
            shutil.rmtree(place)

    def attempt(self, draw: random.Random, number: int, folder: Path) -> str:
        """Kills one, and writes again."""
        names = list(self.writers)
        name = draw.choices(names, [self.writers[one].weight for one in names])[0]
        writer, at = self.writers[name], draw.randint(1, self.counts[name])
        place = folder / "place"  # the same for both: pages name it
        for again in (True, False):
            place.mkdir()
            writer.older(place)
            before = writer.read(place)
            if again:
                writer.write(place)
                after = writer.read(place)
                shutil.rmtree(place)
        shown = f"{name}, before file operation {at} of {self.counts[name]}"
        ended = in_a_copy(lambda: _killed_at(at, lambda: writer.write(place)))
        _compare(writer, place, (before, after), f"torn: {name}", shown)
        writer.write(place)
        _compare(writer, place, (after,), f"written differently after a kill: {name}", shown)
        if left := leftovers(place):
            raise Fault(f"left over after a kill and another write: {name}", f"{shown}: {left}")
        return f"{name}: {'killed' if ended == '' else 'whole before its last operations'}"


def _compare(writer: Writer, place: Path, allowed: tuple[Mapping[str, object], ...], kind: str, shown: str) -> None:
    try:
        found = writer.read(place)
    except Exception as error:
        raise Fault(kind, f"{shown}: {error!r}") from error
    for part in {*found, *(part for one in allowed for part in one)}:
        if all(found.get(part) != one.get(part) for one in allowed):
            raise Fault(kind, f"{shown}: {part}")


def in_a_copy(work: Callable[[], object]) -> str:
    """What some work in a copy of this process gives, as text; nothing where it was killed.

    Raises:
        RuntimeError: It ended otherwise.
    """
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(source)
            os.write(sink, f"{work()}".encode())
            code = 0
        finally:
            os._exit(code)
    os.close(sink)
    with os.fdopen(source, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return ""
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"a copy of this process ended with {os.waitstatus_to_exitcode(status)}")
    return said


def _count(work: Callable[[], None]) -> int:
    """How many file operations some work has."""
    return _watched(work, 0)


def _killed_at(number: int, work: Callable[[], None]) -> int:
    """Ends this process before that file operation, counted from 1; else how many there were."""
    return _watched(work, number)


def _in_memory(what: Any) -> bool:
    return isinstance(getattr(what, "__self__", None), _IN_MEMORY)


def _watched(work: Callable[[], None], deadly: int) -> int:
    count = 0

    def watch(_: object, event: str, what: Any) -> None:
        nonlocal count
        if event == "c_call" and getattr(what, "__name__", "") in _OPERATIONS and not _in_memory(what):
            count += 1
            if count == deadly:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return count
