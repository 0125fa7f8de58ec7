"""What some steps of a training spend their time on: a trace for a browser, and a table of the dearest kernels.

Watching waits for the device before and after those steps, and changes nothing that is computed.
"""

import gzip
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, schedule

from mixmo_fast.batch import Batch, TrainingBatches
from mixmo_fast.errors import ConfigError, MixmoError
from mixmo_fast.files import replacing, write_text
from mixmo_fast.runfolder.names import PROFILE, PROFILE_TRACE

# Steps that nobody looks at: they compile and, on CUDA, are captured; in the last of them the profiler gets ready.
_WARM_UP_STEPS = 6

_ROWS = 10
_LONGEST_NAME = 100


class ProfiledBatches:
    """Batches of a pipeline that watch what is done with those of the first epoch asked for.

    Args:
        batches: The pipeline's.
        steps: How many to watch, after a warm-up of 6.
        device: Where the steps are taken.
        folder: The run folder, for the trace and the table.
        notify: Told the lines of the table.

    Raises:
        ConfigError: When an epoch has too few steps.
    """

    def __init__(
        self, batches: TrainingBatches, steps: int, device: torch.device, folder: Path, notify: Callable[[str], None]
    ):
        self.steps_per_epoch = batches.steps_per_epoch
        most = self.steps_per_epoch - _WARM_UP_STEPS
        if steps > most:
            allowed = f"at most {most}" if most > 0 else "none"
            raise ConfigError(
                f"--profile: found {steps}, allowed here: {allowed} (an epoch's {self.steps_per_epoch} steps less "
                f"{_WARM_UP_STEPS} to warm up)"
            )
        self._batches, self._steps, self._device = batches, steps, device
        self._folder, self._notify = folder, notify
        self._done = False

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, as the pipeline gives them.

        Raises:
            MixmoError: When trace or table cannot be written.
        """
        if self._done:
            return self._batches.epoch(epoch, first_step)
        self._done = True
        return self._watched(epoch, first_step)

    def close(self) -> None:
        """Closes the pipeline."""
        self._batches.close()

    def _watched(self, epoch: int, first_step: int) -> Iterator[Batch]:
        cuda = self._device.type == "cuda"
        # Kineto talks on stderr whenever it starts and stops, and calls it an error that a CPU's machine has no GPU.
        os.environ.setdefault("KINETO_LOG_LEVEL", "9")
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
        window = schedule(skip_first=_WARM_UP_STEPS - 1, wait=0, warmup=1, active=self._steps, repeat=1)
        with profile(activities=activities, schedule=window, on_trace_ready=self._write) as profiler:
            for number, batch in enumerate(self._batches.epoch(epoch, first_step), start=1):
                yield batch
                # Only now, with the next batch asked for, the step with this one has been taken.
                if cuda and number in (_WARM_UP_STEPS, _WARM_UP_STEPS + self._steps):
                    torch.cuda.synchronize(self._device)  # kernels of steps outside would be counted, ours left out
                profiler.step()

    def _write(self, profiler: profile) -> None:
        trace = self._folder / PROFILE_TRACE
        with replacing(trace) as file, gzip.GzipFile("", "wb", fileobj=file) as packed:
            packed.write(_trace_of(profiler))
        lines = [*table(profiler.key_averages(), self._device, self._steps), f"All of it, for ui.perfetto.dev: {trace}"]
        write_text(self._folder / PROFILE, "".join(f"{line}\n" for line in lines))
        for line in lines:
            self._notify(line)


def _trace_of(profiler: profile) -> bytes:
    """The trace as JSON, which the profiler writes to files alone, saying nothing where the disk is full."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            profiler.export_chrome_trace(str(path))
            content = path.read_bytes()
    except OSError:
        content = b""
    if not content.rstrip().endswith(b"}"):
        raise MixmoError(f"{tempfile.gettempdir()}: no room for the profiler's trace, free some or set TMPDIR")
    return content


def table(averages: Any, device: torch.device, steps: int) -> list[str]:
    """The dearest kernels of a GPU, or operators of a CPU without those that they call, as lines.

    Args:
        averages: The profiler's `key_averages()`.
        device: Whose.
        steps: That were watched.
    """
    cuda = device.type == "cuda"
    own = DeviceType.CUDA if cuda else DeviceType.CPU
    times_us = {
        event: event.self_device_time_total if cuda else event.self_cpu_time_total
        for event in averages
        # A GPU's time of an operator is that of its kernels, which are there themselves; so it is of annotations.
        if event.device_type == own and not (cuda and event.is_user_annotation)
        if not event.key.startswith("ProfilerStep")
    }
    total_us = sum(times_us.values()) or 1
    dearest = sorted(times_us, key=lambda event: -times_us[event])[:_ROWS]
    what = "kernels" if cuda else "operators"
    return [
        f"The {len(dearest)} dearest of {len(times_us)} {what} in {steps} steps, {total_us / 1e3:,.1f} ms in all:",
        f"{'total':>12}  {'share':>7}  {'calls':>7}  name",
        *(
            f"{times_us[event] / 1e3:>9,.2f} ms  {times_us[event] / total_us:>7.1%}  {event.count:>7,}  "
            f"{event.key[:_LONGEST_NAME]}"
            for event in dearest
        ),
    ]
