"""Results and the state of runs as tables for the terminal."""

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from mixmo_fast.report.compared import Results
from mixmo_fast.report.comparison_text import (
    difference_text,
    first_cells,
    number_text,
    percent_text,
    published_text,
    seeds_text,
)
from mixmo_fast.report.words import UNKNOWN, percent, whole
from mixmo_fast.reproduce.run_state import RunState, sum_of_seconds_left
from mixmo_fast.training.progress import duration

_STYLES = {"complete": "green", "running": "cyan", "stopped": "yellow", "waiting": "dim", "failed": "red"}


def results_tables(results: Results) -> list[Table]:
    """One for each of the paper's tables; the rest of the numbers is in the files."""
    return [_results_table(title, rows) for title, rows in results.tables]


def _results_table(title: str, rows) -> Table:
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    for head in ("method", "MSDA" if rows[0].width is None else "width"):
        table.add_column(head, no_wrap=True)
    for head in ("published", "best on test", "difference", "last epoch", "NLL", "ECE", "seeds"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("remarks", overflow="fold")
    for row in rows:
        table.add_row(
            *first_cells(row),
            *(published_text(row.published), percent_text(row.best_on_test), difference_text(row.difference)),
            *(percent_text(row.last), number_text(row.nll), number_text(row.ece), seeds_text(row)),
            Text("; ".join(row.marks), style="yellow"),
        )
    return table


def states_table(states: Sequence[RunState], most_rows: int | None = None) -> Table:
    """One row a run.

    Args:
        states: In the order of the plan.
        most_rows: Rows that there is room for; what is least of interest now is counted in a last one.
    """
    shown = list(states)
    if most_rows is not None and len(shown) > most_rows:
        rank = ("running", "failed", "stopped", "waiting", "complete")
        kept = sorted(range(len(shown)), key=lambda place: rank.index(shown[place].status))[: max(1, most_rows - 1)]
        shown = [shown[place] for place in sorted(kept)]
    table = Table()
    table.add_column("run", overflow="ellipsis", no_wrap=True, ratio=1)
    table.add_column("seed", justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for head in ("epoch", "loss", "top-1", "best", "rows/s", "left"):
        table.add_column(head, justify="right", no_wrap=True)
    for state in shown:
        left = state.seconds_left
        table.add_row(
            Text(state.name),
            str(state.seed),
            Text(state.status, style=_STYLES[state.status]),
            f"{state.epoch}/{state.epochs}",
            UNKNOWN if state.loss is None else f"{state.loss:.3f}",
            percent(state.last_top1),
            percent(state.best_top1),
            whole(state.rows_per_second),
            UNKNOWN if left is None or state.status == "complete" else duration(left),
        )
    if len(shown) < len(states):
        table.add_row(Text(f"and {len(states) - len(shown)} others", style="dim"), *[""] * 8)
    return table


def totals_line(states: Sequence[RunState], work: Mapping[tuple[str, int], float]) -> str:
    """`3 of 24 complete, 2 running, 19 waiting; about 12 h 30 min left for one worker`."""
    counts = [(status, sum(state.status == status for state in states)) for status in _STYLES]
    done = counts[0][1]
    parts = [f"{done} of {len(states)} complete", *(f"{number} {status}" for status, number in counts[1:] if number)]
    seconds, unknown = sum_of_seconds_left(states, work)
    line = ", ".join(parts)
    if seconds:
        line += f"; about {duration(seconds)} left for one worker"
    if unknown:
        runs = "1 run" if unknown == 1 else f"{unknown} runs"
        line += f", and {runs} nothing like which was measured" if seconds else f"; no time known yet for {runs}"
    return line


def error_lines(states: Sequence[RunState]) -> list[str]:
    """A line for each run that has failed."""
    return [f"{state.name}, seed {state.seed}: {state.error}" for state in states if state.error is not None]
