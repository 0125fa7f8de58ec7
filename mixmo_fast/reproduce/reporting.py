"""`mixmo-fast report`: the paper's tables from finished and unfinished runs, as numbers, as text and as a page."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mixmo_fast.errors import DataError, MixmoError
from mixmo_fast.report.comparison_text import summary_of
from mixmo_fast.reproduce.found import find_runs
from mixmo_fast.reproduce.results import collect, write_results
from mixmo_fast.reproduce.tables import results_tables
from mixmo_fast.run.page import draw_run
from mixmo_fast.runfolder.names import PAGE, has_ended, is_run_folder
from mixmo_fast.tables import print_table
from mixmo_fast.terminal import say, waiting
from pipelines.datasets.catalog import DatasetInfo
from pipelines.datasets.store import Dataset, describe_dataset


def write_comparison(
    runs: Sequence[Path],
    console: Console,
    out: Path | None = None,
    each: bool = False,
    data: Path = Path("data"),
    wide: bool = False,
) -> Path:
    """Collects the runs, writes what they reached, and prints the tables.

    A single run folder gets its own pictures and its own page anew; it is compared with others only where `out` says
    where to, since its `report.html` is its own.

    Args:
        runs: Reproductions, run folders, or folders of them at any depth.
        console: Where the tables go.
        out: Where `results.json`, `results.md` and `report.html` go; None: the one folder of `runs`.
        each: Whether to write each complete run's own page anew, too, which takes seconds a run.
        data: Folder of data sets, where pages learn of those that are not in the catalogue.
        wide: Whether the tables have all columns, however narrow the terminal is.

    Returns:
        The page.

    Raises:
        MixmoError: When there are no runs, something cannot be read or written, or it is not said where to.
    """
    asked = _command(runs, out, each)
    is_single = len(runs) == 1 and is_run_folder(runs[0])
    if out is None and not is_single:
        if len(runs) != 1:
            raise MixmoError(f"--out: {len(runs)} folders of runs; say with -o DIR where their results go")
        out = runs[0]
    if out is not None and is_run_folder(out):
        raise MixmoError(f"--out: {out} is a run folder, whose {PAGE} is the run's own; allowed: another folder")
    drawn = [run for run in find_runs(runs) if is_single or (each and has_ended(run.folder))]
    own = []
    for run in drawn:
        with waiting(console, f"drawing the page of {run.folder}"):
            own.append(draw_run(run.folder, run.config, _describe(data, run.config.data.dataset)))
    results = collect(runs, out or runs[0])
    for table in results_tables(results):
        print_table(console, table, wide)
    for line in (*summary_of(results), *(f"left out: {line}" for line in results.left_out)):
        say(console, line)
    if out is None:
        say(console, f"The run on one page: {own[0]}")
        return own[0]
    with waiting(console, "drawing the page"):
        write_results(results, out, asked)
    say(console, f"Numbers are in {out / 'results.json'}, tables in {out / 'results.md'}")
    say(console, f"All of it on one page: {out / PAGE}")
    return out / PAGE


def _describe(data: Path, name: str) -> DatasetInfo | Dataset | None:
    """What a page says of a data set; None for one that is not there, without which it has less to say."""
    try:
        return describe_dataset(data, name)
    except DataError:
        return None


def _command(runs: Sequence[Path], out: Path | None, each: bool) -> str:
    words = ["mixmo-fast", "report", *map(str, runs)]
    words += ["-o", str(out)] if out is not None else []
    return shlex.join([*words, "--each"] if each else words)
