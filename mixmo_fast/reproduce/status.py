"""`mixmo-fast status`: how far all runs are, from any shell that sees their folders."""

import time
from pathlib import Path

from rich.console import Console
from rich.live import Live

from mixmo_fast.reproduce.found import find_runs
from mixmo_fast.reproduce.run_state import RunState
from mixmo_fast.reproduce.tables import error_lines, states_table, totals_line
from mixmo_fast.reproduce.watch import SECONDS_BETWEEN_LOOKS, States, screen
from mixmo_fast.tables import print_table
from mixmo_fast.terminal import say


def show_status(runs: Path, console: Console, watch: bool = False, wide: bool = False) -> tuple[RunState, ...]:
    """Prints the table of all runs, what failed, and the totals.

    Args:
        runs: A reproduction, a run folder, or a folder of them at any depth.
        console: Where; watching needs a terminal, and without one the table is printed once.
        watch: Whether to show it anew every couple of seconds until all runs have ended, or Ctrl-C is pressed.
        wide: Whether the table has all columns at the end, however narrow the terminal is.

    Returns:
        The states that were shown last.

    Raises:
        MixmoError: When there are no runs, or a plan or a configuration cannot be read.
    """
    states = States([(run.folder, run.planned) for run in find_runs([runs])])
    found = states.read()
    if watch and console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            try:
                while True:
                    live.update(screen(found, states.work, console.width, console.height), refresh=True)
                    if all(state.status in ("complete", "failed") for state in found):
                        break
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                    found = states.read()
            except KeyboardInterrupt:
                pass  # the way to stop watching
    print_table(console, states_table(found), wide)
    for line in (*error_lines(found), totals_line(found, states.work)):
        say(console, line)
    return tuple(found)
