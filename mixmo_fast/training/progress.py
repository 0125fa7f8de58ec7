"""Live progress of a run: a bar on a terminal, plain lines elsewhere (a log file, a pipe).

A reporter is told what happens and decides what to show; the loop knows no terminal.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mixmo_fast.runfolder.records import Epoch

if TYPE_CHECKING:  # it needs torch, which a table of times does not
    from mixmo_fast.training.step import EpochSoFar, StepTotals

_SECONDS_BETWEEN_UPDATES = 2.0
# Without a bar the totals are only asked whether the loss is still finite.
_SECONDS_BETWEEN_CHECKS = 30.0


class RunProgress:
    """Shows epoch, loss, accuracy, rows/s and the time left.

    Args:
        console: Where to.
        epochs: E of the run.
        steps_per_epoch: Steps of an epoch.
        first_epoch: The first that will be trained, from 1.
        within: What was done of that epoch before; None: nothing.
    """

    def __init__(
        self,
        console: Console,
        epochs: int,
        steps_per_epoch: int,
        first_epoch: int = 1,
        within: "EpochSoFar | None" = None,
    ):
        self._console = console
        self._epochs = epochs
        self._steps_per_epoch = steps_per_epoch
        self._total = epochs * steps_per_epoch
        self._started_at = (first_epoch - 1) * steps_per_epoch + (within.steps if within else 0)
        self._rows_before = within.rows if within else 0  # of the running epoch, which somebody else took
        self._began = self._shown = self._epoch_began = time.perf_counter()
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("starting", total=self._total, completed=self._started_at, left="")

    def __enter__(self) -> "RunProgress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, epoch: int, step: int, totals: "Callable[[], StepTotals]") -> None:
        """Called after each step; `totals` waits for the device, so it is not called more often than is of use."""
        now = time.perf_counter()
        if step == 0:
            self._epoch_began, self._rows_before = now, 0
        if now - self._shown < (_SECONDS_BETWEEN_CHECKS if self._bar is None else _SECONDS_BETWEEN_UPDATES):
            return
        self._shown = now
        so_far = totals()
        if self._bar is None:
            return
        rate = (so_far.rows - self._rows_before) / max(1e-9, now - self._epoch_began)
        done = (epoch - 1) * self._steps_per_epoch + step + 1
        self._bar.update(
            self._task,
            completed=done,
            description=(
                f"epoch {epoch}/{self._epochs}  loss {so_far.loss:.3f}  train top-1 {100 * so_far.top1:.1f} %  "
                f"{rate:,.0f} rows/s"
            ),
            left=f"{duration(self._left(done))} left",
        )

    def epoch(self, done: Epoch) -> None:
        """Prints the line of a finished epoch, of which training has said everything."""
        test = "" if done.top1 is None else f"  test top-1 {100 * done.top1:6.2f} %"
        memory = f"  {done.in_words()}" if done.in_words() else ""
        left = self._left(done.epoch * self._steps_per_epoch)
        width = len(str(self._epochs))
        self._console.print(
            f"epoch {done.epoch:>{width}}/{self._epochs}  loss {done.train_loss:6.3f}{test}  "
            f"{done.rows_per_second:8,.0f} rows/s{memory}  {duration(left)} left",
            highlight=False,
            soft_wrap=True,
        )

    def _left(self, done: int) -> float:
        """Expected seconds to the end of the run, at the pace so far."""
        taken = max(1, done - self._started_at)
        return (time.perf_counter() - self._began) / taken * (self._total - done)


def duration(seconds: float) -> str:
    """Seconds as a person says them: `42 s`, `3 min 05 s`, `2 h 07 min`, and from 100 hours on `4 d 04 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 100 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"
