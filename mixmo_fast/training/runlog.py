"""What a run leaves on disk besides checkpoints: configuration, environment, metrics, TensorBoard events, summary.

`metrics.jsonl` has one object an epoch; `metrics.csv` is the same as a table. The checkpoint holds the same rows, so a
run that resumes at epoch e writes both files anew with what the checkpoint knows, and goes on from there.
"""

import csv
import io
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mixmo_fast import __version__
from mixmo_fast.errors import MixmoError
from mixmo_fast.files import write_text
from mixmo_fast.runfolder.names import METRICS, METRICS_TABLE, TENSORBOARD
from mixmo_fast.runfolder.records import Epoch

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
    """

    def __init__(self, folder: Path, history: list[Epoch]):
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self.folder = folder
        self.history = history
        write_text(folder / METRICS, "".join(map(_line, history)))
        if history:
            write_text(folder / METRICS_TABLE, _as_csv(history))
        self._events = SummaryWriter(str(folder / TENSORBOARD), purge_step=len(history) + 1)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._events.close()

    def append(self, epoch: Epoch) -> None:
        """Records an epoch; its scalars go to TensorBoard by their names."""
        self.history.append(epoch)
        try:
            with (self.folder / METRICS).open("a", encoding="utf-8") as file:
                file.write(_line(epoch))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise MixmoError(f"{self.folder / 'metrics.jsonl'}: cannot write: {error.strerror}") from error
        write_text(self.folder / METRICS_TABLE, _as_csv(self.history))
        for name, value in epoch.as_dict().items():
            if isinstance(value, int | float) and name != "epoch":
                self._events.add_scalar(name, value, epoch.epoch)
            elif isinstance(value, list):
                for member, own in enumerate(value):
                    self._events.add_scalar(f"{name}/{member}", own, epoch.epoch)
        self._events.flush()

    def picture(self, name: str, path: Path) -> None:
        """Shows a picture file in TensorBoard."""
        from PIL import Image

        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._events.add_image(name, pixels, 0, dataformats="HWC")

    def hyperparameters(self, settings: Mapping[str, Any], final: Mapping[str, float]) -> None:
        """Puts the run into TensorBoard's table of hyper-parameters.

        Args:
            settings: By section, as `Config.model_dump` gives them.
            final: The metrics to compare runs by.
        """
        from torch.utils.tensorboard.summary import hparams

        writer: Any = self._events.file_writer
        # `SummaryWriter.add_hparams` would open a second file of events, which TensorBoard takes for another run.
        for summary in hparams(dict(_flat(settings)), dict(final)):
            writer.add_summary(summary)
        for name, value in final.items():
            self._events.add_scalar(name, value, len(self.history))


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
