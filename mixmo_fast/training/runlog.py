"""What a run leaves on disk besides checkpoints: configuration, environment, metrics, TensorBoard events, summary.

`metrics.jsonl` has one object an epoch; `metrics.csv` is the same as a table. The checkpoint holds the same rows, so a
run that resumes at epoch e writes both files anew with what the checkpoint knows, and goes on from there. Events stay,
and those behind the checkpoint are hidden by number; so what is counted in steps lies in a folder of its own.
"""

import csv
import io
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mixmo_fast import __version__
from mixmo_fast.files import write_text
from mixmo_fast.runfolder.names import METRICS, METRICS_TABLE, TENSORBOARD, TENSORBOARD_STEPS
from mixmo_fast.runfolder.records import Epoch
from mixmo_fast.runfolder.scores import SCORES
from mixmo_fast.training.events import Events

_RECORDED_PACKAGES = ("numpy", "numba", "scipy", "scikit-learn")


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    return {
        "mixmo_fast": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,  # with its CUDA variant, which the package's metadata leaves out
        **{name: metadata.version(name) for name in _RECORDED_PACKAGES},
    }


def environment(device: torch.device) -> dict[str, Any]:
    """The machine a run was on, JSON-ready."""
    cuda = device.type == "cuda"
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if cuda else f"cpu ({platform.machine()})",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda if cuda else None,
        "threads": torch.get_num_threads(),
    }


class RunLog:
    """The text files and events of one run folder.

    Args:
        folder: The run folder.
        history: The epochs so far, oldest first; what the files hold beyond them is dropped.
        steps_per_epoch: Steps of an epoch.
        notify: Told in one line when there are no events any more; what else cannot be written is an error.

    Raises:
        MixmoError: When a file cannot be written.
    """

    def __init__(self, folder: Path, history: list[Epoch], steps_per_epoch: int, notify: Callable[[str], None]):
        self.folder = folder
        self.history = history
        self._write_metrics()
        self._steps_per_epoch = steps_per_epoch
        notify_once = _once(notify)
        self._events = Events(folder / TENSORBOARD, len(history) + 1, notify_once)
        self._events_by_step = Events(folder / TENSORBOARD_STEPS, len(history) * steps_per_epoch + 1, notify_once)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._events.close()
        self._events_by_step.close()

    def append(self, epoch: Epoch, curve: Iterable[tuple[int, float]] = ()) -> None:
        """Records an epoch; its scalars go to TensorBoard, in the groups of `_tag`.

        Args:
            epoch: What is known of it.
            curve: Its loss by step, as `mixmo_fast.training.step.StepTotals` has it; for TensorBoard alone.

        Raises:
            MixmoError: When a file cannot be written.
        """
        self.history.append(epoch)
        self._write_metrics()
        for name, value in epoch.as_dict().items():
            if isinstance(value, int | float) and name != "epoch":
                self._events.add_point(_tag(name), value, epoch.epoch)
            elif isinstance(value, list):
                for member, own in enumerate(value):
                    self._events.add_point(f"{_tag(name)}/{member}", own, epoch.epoch)
        before = self._steps_per_epoch * (epoch.epoch - 1)
        for steps, loss in curve:
            self._events_by_step.add_point("train/loss_by_step", loss, before + steps)

    def picture(self, name: str, path: Path) -> None:
        """Shows a picture file in TensorBoard."""
        from PIL import Image
        from torch.utils.tensorboard.summary import image

        with Image.open(path) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        self._events.add(image(name, pixels, dataformats="HWC"))

    def hyperparameters(self, settings: Mapping[str, Any], final: Mapping[str, float]) -> None:
        """Puts the run into TensorBoard's table of hyper-parameters.

        Args:
            settings: By section, as `Config.model_dump` gives them.
            final: The metrics to compare runs by.
        """
        from torch.utils.tensorboard.summary import hparams

        for summary in hparams(dict(_flat(settings)), dict(final)):
            self._events.add(summary)
        for name, value in final.items():
            self._events.add_point(name, value, len(self.history))

    def _write_metrics(self) -> None:
        # Anew and not appended: a disk that is full leaves no half of a line.
        write_text(self.folder / METRICS, "".join(map(_line, self.history)))
        if self.history:
            write_text(self.folder / METRICS_TABLE, _as_csv(self.history))


def _once(notify: Callable[[str], None]) -> Callable[[str], None]:
    """Passes on the first line, and no other."""
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if told == [line]:
            notify(line)

    return tell


def _tag(name: str) -> str:
    """`train/loss`, `test/top1`, `members/top1`, `speed/rows_per_second`: TensorBoard folds what is before a slash."""
    if name == "learning_rate" or (name.startswith("train_") and name != "train_seconds"):
        return f"train/{name.removeprefix('train_')}"
    if name in SCORES:
        of_members = SCORES[name].of == "members"
        return f"members/{name.removeprefix('member_')}" if of_members else f"test/{name}"
    return f"speed/{name}"


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    """`network.width: 10` and so on; what is neither a number nor a word becomes text."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value and all(isinstance(name, str) for name in value):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value if isinstance(value, bool | int | float | str) else json.dumps(value)


def _line(epoch: Epoch) -> str:
    return json.dumps(epoch.as_dict()) + "\n"


def _as_csv(history: Sequence[Epoch]) -> str:
    rows = [epoch.as_dict() for epoch in history]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()} for row in rows
    )
    return text.getvalue()
