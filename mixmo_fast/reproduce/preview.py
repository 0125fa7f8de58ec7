"""What `reproduce --dry-run` prints: every run, what it costs, and what is not known; nothing is made or started.

Units: PFLOP are 1e15 floating-point operations, GB 1e9 bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from mixmo_fast.report.words import UNKNOWN
from mixmo_fast.reproduce.data_sets import data_problems
from mixmo_fast.reproduce.disk import (
    bytes_left,
    checkpoint_bytes,
    dataset_bytes,
    free_bytes,
    in_words,
    unconverted,
)
from mixmo_fast.reproduce.estimate import MEASURE, Estimate, Speed, estimate
from mixmo_fast.reproduce.jobs import is_complete
from mixmo_fast.reproduce.plan import PlannedRun
from mixmo_fast.tables import Cell, Column, Sheet
from mixmo_fast.training.progress import duration


@dataclass(frozen=True)
class Cost:
    """What runs take together.

    Attributes:
        rows: Network inputs of their trainings.
        flop: Floating-point operations of their trainings.
        hours: Of one worker; None where nothing was measured.
        checkpoint_bytes: Disk for all their checkpoints.
    """

    rows: int
    flop: int
    hours: float | None
    checkpoint_bytes: int


def cost_of(runs: Sequence[PlannedRun], speeds: Sequence[Speed]) -> Cost:
    """What runs take together, evaluations and starting excluded."""
    hours = [one.hours for one in (estimate(run, speeds) for run in runs) if one is not None]
    return Cost(
        rows=sum(run.rows for run in runs),
        flop=sum(run.flop for run in runs),
        hours=sum(hours) if len(hours) == len(runs) else None,
        checkpoint_bytes=sum(map(checkpoint_bytes, runs)),
    )


def preview_table(runs: Sequence[PlannedRun], speeds: Sequence[Speed], out: Path) -> Sheet:
    """A row for each configuration with all its seeds, and the totals."""
    by_name: dict[str, list[PlannedRun]] = {}
    for run in runs:
        by_name.setdefault(run.name, []).append(run)
    rows: list[tuple[Cell, ...]] = []
    for name, seeds in by_name.items():
        first, expected = seeds[0], estimate(seeds[0], speeds)
        shortened = f" of {first.full_epochs}" if first.epochs != first.full_epochs else ""
        rows.append((name, str(len(seeds)), f"{first.epochs}{shortened}", *_numbers(cost_of(seeds, speeds), expected)))
    totals = ("all", str(len(runs)), "", *_numbers(cost_of(runs, speeds), None))
    return Sheet(
        columns=(
            Column("configuration", "name"),
            *(Column("seeds"), Column("epochs"), Column("rows", rank=2), Column("PFLOP", rank=1)),
            *(Column("time"), Column("from", rank=3), Column("disk")),
        ),
        rows=(*rows, tuple(Text(cell, style="bold") for cell in totals)),
        title=f"{len(runs)} runs into {out}; each row is of all seeds together",
        rules=frozenset({len(rows) - 1}),
    )


def preview_lines(
    runs: Sequence[PlannedRun],
    speeds: Sequence[Speed],
    out: Path,
    data: Path,
    workers: int | None,
    runs_per_gpu: int = 1,
) -> list[str]:
    """What stands under the table: what is left to do, where speeds come from, and the disk that is needed.

    Args:
        runs: What was asked for.
        speeds: Measured, of runs that have their device for themselves.
        out: The reproduction's folder.
        data: Folder of data sets.
        workers: GPUs, or runs at the same time on a CPU; None: not known.
        runs_per_gpu: How many runs share a GPU.
    """
    left = [run for run in runs if not is_complete(run, out)]
    lines = []
    if len(left) < len(runs):
        hours = cost_of(left, speeds).hours
        still = f", {duration(3600 * hours)} of one worker" if hours is not None and left else ""
        lines.append(f"{len(runs) - len(left)} of {len(runs)} runs are complete already; {len(left)} are left{still}")
    if not speeds:
        lines.append(
            f"Time: not measured. `{MEASURE}` measures a training step, and --measured FILE.json takes its result; "
            "so do runs that are complete here"
        )
    else:
        sources = dict.fromkeys(one.source for run in runs if (one := estimate(run, speeds)))
        lines.append(
            "Times are of one worker, training alone, evaluation and starting excluded, from speeds measured in "
            f"{'; '.join(sources)}. Those marked `by work` are carried over from another network by MACs"
        )
        hours = cost_of(left, speeds).hours
        if workers and workers > 1 and hours:
            lines.append(f"On {workers} workers: {duration(3600 * hours / workers)} at least")
    if runs_per_gpu > 1:
        lines.append(
            f"--runs-per-gpu {runs_per_gpu}: not measured; {runs_per_gpu} runs on a GPU are assumed to take "
            f"{runs_per_gpu} times as long as one, so times are those of one run at a time on each"
        )
    missing = unconverted(left, data)
    folders = bytes_left(left, out)
    needed = folders + sum(map(dataset_bytes, missing))
    convert = "".join(f", {info.title} to convert {in_words(dataset_bytes(info))}" for info in missing)
    free = free_bytes(out)
    room = "" if free is None else f"; {in_words(free)} are free in {out}"
    lines.append(f"Disk: at most {in_words(needed)} more (run folders {in_words(folders)}{convert}){room}")
    lines += [f"Data: {problem}" for problem in data_problems([run.dataset for run in left], data).values()]
    return lines


def _numbers(cost: Cost, expected: Estimate | None) -> tuple[str, ...]:
    return (
        f"{cost.rows:,}",
        f"{cost.flop / 1e15:,.2f}" if cost.flop < 1e17 else f"{cost.flop / 1e15:,.0f}",
        UNKNOWN if cost.hours is None else duration(3600 * cost.hours),
        expected.basis if expected else "",
        in_words(cost.checkpoint_bytes),
    )
