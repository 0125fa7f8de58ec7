"""Live progress of a run: a bar on a terminal, plain lines elsewhere (a log file, a pipe).

A reporter is told what happens and decides what to show; the loop knows no terminal.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mixmo_fast.runfolder.records import Epoch
from mixmo_fast.terminal import say

if TYPE_CHECKING:  # it needs torch, which a table of times does not
    from mixmo_fast.training.step import EpochSoFar, StepTotals

_SECONDS_BETWEEN_UPDATES = 2.0
# Without a bar the totals are only asked whether the loss is still finite.
_SECONDS_BETWEEN_CHECKS = 30.0
_SECONDS_WORTH_A_LINE = 5.0  # of a first step, in a log that said that it was being compiled
# The first step compiles, the second may be captured: what follows is the pace, once as many are timed.
_WARM_UP_STEPS = _LEAST_STEPS = 2
# Characters: a bar has percent and seconds above the first, and below the second no rows/s either.
_WIDE, _NARROW = 100, 80
_LONGEST_LEFT = len("  12 h 30 min left")


class RunProgress:
    """Shows epoch, loss, accuracy, and, once they are known, rows/s and the time left.

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
        self._taken = 0  # steps, by this process
        self._shown = time.perf_counter()
        self._since: tuple[float, int] | None = None  # when the warm-up was over, and after how many steps of the run
        self._epoch_since = (self._shown, 0)  # likewise in the running epoch, without what was between epochs
        self._rate = ""
        self._bar: Progress | None = None
        if console.is_terminal:
            is_wide = console.width >= _WIDE
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                *((TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn()) if is_wide else ()),
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

    def now(self, what: str) -> None:
        """Names what is waited for where no steps are taken."""
        if self._bar is None:
            say(self._console, f"{what} ...")
        else:
            self._bar.update(self._task, description=what)

    def step(self, epoch: int, step: int, totals: "Callable[[], StepTotals]") -> None:
        """Called after each step; `totals` waits for the device, so it is not called more often than is of use."""
        now = time.perf_counter()
        done = (epoch - 1) * self._steps_per_epoch + step + 1
        self._taken += 1
        if self._taken == 1 and self._bar is not None:
            self._bar.update(self._task, description=f"epoch {epoch}/{self._epochs}")
        elif self._taken == 1 and now - self._shown > _SECONDS_WORTH_A_LINE:
            say(self._console, f"the first step took {duration(now - self._shown)}")
        if self._taken == _WARM_UP_STEPS:
            self._since = now, done
        if step == 0 or self._taken == _WARM_UP_STEPS:
            self._epoch_since = now, step
        if now - self._shown < (_SECONDS_BETWEEN_CHECKS if self._bar is None else _SECONDS_BETWEEN_UPDATES):
            return
        self._shown = now
        so_far = totals()
        if self._bar is None:
            return
        began, first = self._epoch_since
        if self._taken >= _WARM_UP_STEPS + _LEAST_STEPS and step >= first + _LEAST_STEPS:
            rows_per_step = so_far.rows / (step + 1)
            self._rate = f"{rows_per_step * (step - first) / (now - began):,.0f} rows/s"
        self._bar.update(
            self._task,
            completed=done,
            description=self._description(epoch, so_far),
            left=self._left(done),
        )

    def _description(self, epoch: int, so_far: "StepTotals") -> str:
        """What is left of the bar, as much as leaves room for it and the time left."""
        train = "train top-1" if self._console.width >= _WIDE else "train"
        parts = [f"epoch {epoch}/{self._epochs}", f"loss {so_far.loss:.3f}", f"{train} {100 * so_far.top1:.1f} %"]
        if self._console.width >= _NARROW and self._rate:
            parts.append(self._rate)
        return "  ".join(parts)

    def epoch(self, done: Epoch) -> None:
        """Prints the line of a finished epoch: all that training has said, or on a terminal what its line holds."""
        steps = done.epoch * self._steps_per_epoch
        left = self._left(steps)
        if self._bar is not None:
            self._bar.update(self._task, completed=steps, left=left)
        head = f"epoch {done.epoch:>{len(str(self._epochs))}}/{self._epochs}  loss {done.train_loss:6.3f}"
        top1 = "" if done.top1 is None else f" {100 * done.top1:6.2f} %"
        test, short = (f"  {words}{top1}" if top1 else "" for words in ("test top-1", "test"))
        rate = f"  {done.rows_per_second:8,.0f} rows/s"
        memory = f"  {done.in_words()}" if done.in_words() else ""
        lines = (f"{head}{test}{rate}{memory}", f"{head}{test}{rate}", f"{head}{short}{rate}", f"{head}{short}")
        fitting = (one for one in lines if self._bar is None or len(one) + _LONGEST_LEFT <= self._console.width)
        say(self._console, f"{next(fitting, lines[-1])}{f'  {left}' if left else ''}")

    def _left(self, done: int) -> str:
        """`3 min 05 s left` to the end of the run, at the pace since the warm-up; empty before that is known."""
        if self._since is None or done < self._since[1] + _LEAST_STEPS:
            return ""
        began, first = self._since
        return f"{duration((time.perf_counter() - began) / (done - first) * (self._total - done))} left"


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
