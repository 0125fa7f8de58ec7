"""Results and the state of runs as tables for the terminal."""

from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from mixmo_fast.report.compared import ConfigurationResult, Results, differ_in_epochs
from mixmo_fast.report.comparison_text import (
    difference_text,
    first_cells,
    has_published,
    number_text,
    percent_text,
    published_text,
    seeds_text,
)
from mixmo_fast.report.words import UNKNOWN, percent, whole
from mixmo_fast.reproduce.run_state import RunState, sum_of_seconds_left
from mixmo_fast.tables import Cell, Column, Sheet
from mixmo_fast.training.progress import duration

_STYLES = {"complete": "green", "running": "cyan", "stopped": "yellow", "waiting": "dim", "failed": "red"}
_RUNNING_SHOWN = 4


def results_tables(results: Results) -> list[Sheet]:
    """One for each of the paper's tables; the rest of the numbers is in the files."""
    return [_results_table(title, rows) for title, rows in results.tables]


def _results_table(title: str, rows: Sequence[ConfigurationResult]) -> Sheet:
    published, epochs = has_published(rows), differ_in_epochs(rows)
    firsts = [first_cells(row) for row in rows]
    named = len(set(firsts)) < len(rows) or not published  # only the paper's rows are known by their method
    says_nothing = all(second == UNKNOWN for _, second in firsts)
    rank = 7 if says_nothing else 2 if named else 0
    second = Column("MSDA", "word", rank) if rows[0].width is None else Column("width", rank=rank)
    return Sheet(
        columns=(
            *(Column("method", "name"), second),
            *((Column("published", rank=1),) if published else ()),
            Column("best on test"),
            *((Column("diff.", rank=2),) if published else ()),
            *(Column("last epoch", rank=3), Column("NLL", rank=5), Column("ECE", rank=6)),
            *((Column("epochs"),) if epochs else ()),
            *(Column("seeds"), Column("configuration", "name", rank=0 if named else 4)),
        ),
        rows=tuple(
            (
                *first,
                *((published_text(row.published),) if published else ()),
                percent_text(row.best_on_test),
                *((difference_text(row.difference),) if published else ()),
                *(percent_text(row.last), number_text(row.nll), number_text(row.ece)),
                *((str(row.epochs),) if epochs else ()),
                *(seeds_text(row), row.name),
            )
            for row, first in zip(rows, firsts, strict=True)
        ),
        title=title,
        notes=tuple(_remarks(rows)),
    )


def _remarks(rows: Sequence[ConfigurationResult]) -> Iterator[str]:
    """`6 of 300 epochs: all rows`: what keeps numbers from being the paper's, below the table and never left out."""
    for mark in dict.fromkeys(mark for row in rows for mark in row.marks):
        marked = [row.label for row in rows if mark in row.marks]
        yield f"{mark}: {'all rows' if len(marked) == len(rows) else ', '.join(dict.fromkeys(marked))}"


def states_table(states: Sequence[RunState], most_rows: int | None = None) -> Sheet:
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
    columns = (
        *(Column("run", "name"), Column("seed"), Column("status", "word"), Column("epoch")),
        *(Column("loss", rank=5), Column("top-1", rank=2), Column("best", rank=3)),
        *(Column("rows/s", rank=4), Column("left", rank=1)),
    )
    rows = [_cells(state) for state in shown]
    if len(shown) < len(states):
        others = Text(f"and {len(states) - len(shown)} others", style="dim")
        rows.append((others, *[""] * (len(columns) - 1)))
    return Sheet(columns, tuple(rows))


def _cells(state: RunState) -> tuple[Cell, ...]:
    left = state.seconds_left
    return (
        *(state.name, str(state.seed), Text(state.status, style=_STYLES[state.status])),
        f"{state.epoch}/{state.epochs}",
        UNKNOWN if state.loss is None else f"{state.loss:.3f}",
        *(percent(state.last_top1), percent(state.best_top1), whole(state.rows_per_second)),
        UNKNOWN if left is None or state.status == "complete" else duration(left),
    )


def totals_line(states: Sequence[RunState], work: Mapping[tuple[str, int], float], workers: int = 1) -> str:
    """`3 of 24 complete, 2 running, 19 waiting; about 12 h 30 min left for one worker`.

    Args:
        states: Of all runs.
        work: FLOP by name and seed, as far as they are known.
        workers: How many runs there are at the same time, as far as there are so many.
    """
    counts = [(status, sum(state.status == status for state in states)) for status in _STYLES]
    done = counts[0][1]
    parts = [f"{done} of {len(states)} complete", *(f"{number} {status}" for status, number in counts[1:] if number)]
    seconds, unknown = sum_of_seconds_left(states, work)
    line = ", ".join(parts)
    if seconds:
        busy = min(workers, sum(state.status not in ("complete", "failed") for state in states))
        line += f"; about {duration(seconds / busy)} left for {'one worker' if busy == 1 else f'{busy} workers'}"
    if unknown:
        runs = "1 run" if unknown == 1 else f"{unknown} runs"
        line += f", and {runs} nothing like which was measured" if seconds else f"; no time known yet for {runs}"
    return line


def running_line(states: Sequence[RunState]) -> str:
    """`; running: NAME, seed 1: epoch 3/300`, of many the first ones and how many others; empty where none is."""
    running = [one for one in states if one.status == "running"]
    lines = [f"{one.name}, seed {one.seed}: epoch {one.epoch}/{one.epochs}" for one in running[:_RUNNING_SHOWN]]
    lines += [f"and {len(running) - len(lines)} others"] * (len(running) > len(lines))
    return f"; running: {'; '.join(lines)}" if lines else ""


def error_lines(states: Sequence[RunState]) -> list[str]:
    """A line for each run that has failed."""
    return [f"{state.name}, seed {state.seed}: {state.error}" for state in states if state.error is not None]
