"""What `reproduce --dry-run` prints: every run, what it costs, and what is not known; nothing is made or started.

Units: PFLOP are 1e15 floating-point operations, GB 1e9 bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from mixmo_fast.reproduce.estimate import MEASURE, Estimate, Speed, estimate
from mixmo_fast.reproduce.jobs import is_complete
from mixmo_fast.reproduce.plan import PlannedRun
from pipelines.datasets.beton import beton_layout
from pipelines.datasets.catalog import DATASETS, DatasetInfo

_BYTES = 4  # of a weight, or of its momentum, which are kept in fp32
_LABEL_BYTES = 8
_NPY_HEADER_BYTES = 128


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


def checkpoint_bytes(run: PlannedRun) -> int:
    """Disk that a run's checkpoints take at most: the last, the best, and those kept every so many epochs.

    Each has all weights and as much again for the momentum, in fp32.
    """
    copies = 2 if run.config.optimizer.momentum else 1
    every = run.config.checkpoint.every_epochs
    kept = run.epochs // every if every else 0
    return run.size.parameters * _BYTES * copies * (2 + kept)


def dataset_bytes(info: DatasetInfo) -> int:
    """Disk that a converted data set takes: both splits, as `.beton`, and as images and labels in NumPy's format."""
    size = 0
    for images in (info.train_images, info.test_images):
        pixels = images * info.height * info.width * info.channels
        size += beton_layout(images, info.height, info.width).total
        size += 2 * _NPY_HEADER_BYTES + pixels + images * _LABEL_BYTES
    return size


def preview_table(runs: Sequence[PlannedRun], speeds: Sequence[Speed], out: Path) -> Table:
    """A row for each configuration with all its seeds, and the totals."""
    table = Table(
        title=Text(f"{len(runs)} runs into {out}; each row is of all seeds together"),
        title_justify="left",
        title_style="bold",
    )
    table.add_column("configuration", overflow="fold")
    for column in ("seeds", "epochs", "rows", "PFLOP", "hours", "from", "checkpoints"):
        table.add_column(column, justify="right", no_wrap=True)
    by_name: dict[str, list[PlannedRun]] = {}
    for run in runs:
        by_name.setdefault(run.name, []).append(run)
    for name, seeds in by_name.items():
        first, expected = seeds[0], estimate(seeds[0], speeds)
        shortened = f" of {first.full_epochs}" if first.epochs != first.full_epochs else ""
        table.add_row(
            name,
            str(len(seeds)),
            f"{first.epochs}{shortened}",
            *_numbers(cost_of(seeds, speeds), expected),
        )
    table.add_section()
    table.add_row("all", str(len(runs)), "", *_numbers(cost_of(runs, speeds), None), style="bold")
    return table


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
        still = f", {_hours(hours)} hours of one worker" if hours is not None and left else ""
        lines.append(f"{len(runs) - len(left)} of {len(runs)} runs are complete already; {len(left)} are left{still}")
    if not speeds:
        lines.append(
            f"Hours: not measured. `{MEASURE}` measures a training step, and --measured FILE.json takes its result; "
            "so do runs that are complete here"
        )
    else:
        sources = dict.fromkeys(one.source for run in runs if (one := estimate(run, speeds)))
        lines.append(
            "Hours are of one worker, training alone, evaluation and starting excluded, from speeds measured in "
            f"{'; '.join(sources)}. Those marked `by work` are carried over from another network by MACs"
        )
        hours = cost_of(left, speeds).hours
        if workers and workers > 1 and hours:
            lines.append(f"On {workers} workers: {_hours(hours / workers)} hours at least")
    if runs_per_gpu > 1:
        lines.append(
            f"--runs-per-gpu {runs_per_gpu}: not measured; {runs_per_gpu} runs on a GPU are assumed to take "
            f"{runs_per_gpu} times as long as one, so hours are those of one run at a time on each"
        )
    known = [DATASETS[name] for name in dict.fromkeys(run.dataset for run in runs) if name in DATASETS]
    missing = [info for info in known if not (data / info.name / "dataset.json").is_file()]
    needed = sum(map(checkpoint_bytes, left)) + sum(map(dataset_bytes, missing))
    convert = "".join(f", {info.title} to convert {_size(dataset_bytes(info))}" for info in missing)
    checkpoints = _size(sum(map(checkpoint_bytes, left)))
    lines.append(f"Disk: at most {_size(needed)} more (checkpoints {checkpoints}{convert})")
    return lines


def _numbers(cost: Cost, expected: Estimate | None) -> tuple[str, ...]:
    return (
        f"{cost.rows:,}",
        f"{cost.flop / 1e15:,.2f}" if cost.flop < 1e17 else f"{cost.flop / 1e15:,.0f}",
        "not measured" if cost.hours is None else _hours(cost.hours),
        expected.basis if expected else "",
        _size(cost.checkpoint_bytes),
    )


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 1 else f"{hours:.3f}"


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
