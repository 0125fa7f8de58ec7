"""What the commands' command lines have in common: options, and how they print."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

DataOption = Annotated[
    Path, typer.Option("--data", metavar="FOLDER", help="Folder of data sets, original and converted.")
]
RunsOption = Annotated[Path, typer.Option("--runs", metavar="FOLDER", help="Folder of run folders.")]
DeviceOption = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cuda or cpu.")]
SeedOption = Annotated[int | None, typer.Option("--seed", metavar="N", help="Instead of the configuration's.")]
PipelineOption = Annotated[
    str,
    typer.Option("--pipeline", metavar="NAME", help="How pixels reach the device: resident, ffcv, dali or reference."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", metavar="N", help="Processes or threads of ffcv, dali and reference. Default: one a core."
    ),
]
CacheOption = Annotated[
    str,
    typer.Option(
        "--cache", metavar="NAME", help="Who keeps FFCV's file in memory: os, or process for files that outgrow it."
    ),
]
OverrideOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override, e.g. optimizer.lr=0.01 or msda=null; repeatable."),
]
ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="A configuration file, of this program or of mixmo-pytorch.")
]
TargetArgument = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="A run folder, a configuration file whose run is in --runs, or a checkpoint."),
]
CheckpointOption = Annotated[
    str,
    typer.Option("--checkpoint", metavar="WHICH", help="last, best (on test), the number of a kept epoch, or a path."),
]
JsonOption = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all numbers to this file.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
WideOption = Annotated[bool, typer.Option("--wide", help="Show all columns of tables, however narrow the terminal is.")]

WHEN_ALONE = {"--robustness": "auto", "--profile": "20"}
"""What an option means whose value may be left out; the parser itself knows no such thing."""

_SECONDS_BETWEEN_LINES = 60.0


def make_console():
    """Where commands print."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(markup=False, highlight=False, soft_wrap=True)
    # Where no terminal tells its width (a pipe, a log) lines are not broken at 80 columns; and FORCE_COLOR, which CI
    # services set, makes no terminal of a file, in which bars would leave thousands of cursor codes.
    return Console(force_terminal=False, width=160, markup=False, highlight=False, soft_wrap=True)


class BarOfWork:
    """A progress bar; where there is no terminal, a line at the start and one a minute.

    Args:
        console: Where to.
        what: All of the work, which a bar without an end names until some of it is counted.
    """

    def __init__(self, console, what: str):
        from rich.progress import Progress

        self._console, self._what = console, what
        self._bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._tasks: dict[str, Any] = {}

    def __enter__(self):
        self._bar.start()
        if self._bar.disable:
            self._say(f"{self._what} ...")
        else:
            self._tasks[""] = self._bar.add_task(self._what, total=None)
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def _say(self, line: str) -> None:
        from mixmo_fast.terminal import say

        say(self._console, line)
        self._said = time.monotonic()

    def show(self, description: str, done: int, total: int) -> None:
        """Reports `done` of `total` pieces of some work."""
        if self._bar.disable:
            if time.monotonic() - self._said >= _SECONDS_BETWEEN_LINES:
                self._say(f"{description}: {done:,} of {total:,}")
            return
        if "" in self._tasks:
            self._bar.remove_task(self._tasks.pop(""))
        if description not in self._tasks:
            self._tasks[description] = self._bar.add_task(description, total=total)
        self._bar.update(self._tasks[description], completed=done, total=total)
