"""How far all runs are, live: read from the run folders, whoever works in them and on whatever machine.

A terminal has a table that is redrawn. A log file or a pipe gets a line a minute, between those of the engine.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from mixmo_fast.reproduce.found import known_work
from mixmo_fast.reproduce.plan import PlannedRun, ReproductionPlan
from mixmo_fast.reproduce.run_state import RunState, read_state
from mixmo_fast.reproduce.tables import error_lines, running_line, states_table, totals_line
from mixmo_fast.tables import fitted
from mixmo_fast.terminal import say

SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_BETWEEN_LINES = 60.0
_SECONDS_BEFORE_THE_FIRST = 10.0
_LINES_AROUND = 6  # of a table and the totals, which a low window also has to hold
_ERRORS_SHOWN = 3


class Watch:
    """Shows how far all runs of a plan are, while a block of code lasts.

    Args:
        console: Where to.
        plan: Which runs.
        out: The reproduction's folder.
        workers: How many runs there are at the same time; None: not known.
        seconds: Between two looks at the folders; None: a couple on a terminal, a minute elsewhere.
    """

    def __init__(
        self,
        console: Console,
        plan: ReproductionPlan,
        out: Path,
        workers: int | None = None,
        seconds: float | None = None,
    ):
        self._console, self._workers = console, workers or 1
        self._seconds = seconds or (SECONDS_BETWEEN_LOOKS if console.is_terminal else SECONDS_BETWEEN_LINES)
        self._states = States([(run.folder(out), run) for run in plan.runs])
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look_until_over, name="watch", daemon=True)
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Watch":
        if self._live is not None:
            self._live.start()
            self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        if self._live is not None:
            self._look()
            self._live.stop()

    def _look_until_over(self) -> None:
        seconds = min(self._seconds, _SECONDS_BEFORE_THE_FIRST)
        while not self._is_over.wait(seconds):
            self._look()
            seconds = self._seconds

    def _look(self) -> None:
        states, work = self._states.read(), self._states.work
        if self._live is None:
            say(self._console, totals_line(states, work, self._workers) + running_line(states))
            return
        size = self._console.size
        self._live.update(screen(states, work, size.width, size.height, self._workers), refresh=True)


class States:
    """The states of some runs, read as often as is asked for; a run that is complete is read no further.

    Args:
        runs: Folder and plan of each.
    """

    def __init__(self, runs: Sequence[tuple[Path, PlannedRun]]):
        self._runs = tuple(runs)
        self._complete: dict[Path, RunState] = {}
        self.work = {run.key: flop for _, run in runs if (flop := known_work(run)) is not None}

    def read(self) -> list[RunState]:
        """All of them, in order."""
        states = []
        for folder, run in self._runs:
            state = self._complete.get(folder) or read_state(folder, run)
            if state.status == "complete":
                self._complete[folder] = state
            states.append(state)
        return states


def screen(
    states: Sequence[RunState], work: dict[tuple[str, int], float], width: int, height: int, workers: int = 1
) -> RenderableType:
    """The table as far as it fits a window, the totals, and the first errors.

    Args:
        states: Of all runs.
        work: FLOP by name and seed.
        width: Of the window, characters.
        height: Of the window, lines.
        workers: How many runs there are at the same time.
    """
    errors = error_lines(states)
    more = [f"and {len(errors) - _ERRORS_SHOWN} other failed runs"] if len(errors) > _ERRORS_SHOWN else []
    shown = [Text(line, style="red", overflow="ellipsis", no_wrap=True) for line in (*errors[:_ERRORS_SHOWN], *more)]
    room = height - _LINES_AROUND - len(shown)
    table, _ = fitted(states_table(states, max(3, room)), width)
    return Group(table, Text(totals_line(states, work, workers)), *shown)
