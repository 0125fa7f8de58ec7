"""`mixmo-fast reproduce`: from one command to the paper's tables, begun, interrupted and continued at any moment."""

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from mixmo_fast.errors import ConfigError, DeviceError, MixmoError
from mixmo_fast.reproduce.data_sets import data_problems, require_data
from mixmo_fast.reproduce.disk import require_room
from mixmo_fast.reproduce.estimate import read_speed, speeds_of_runs
from mixmo_fast.reproduce.extend import extend, update_plan
from mixmo_fast.reproduce.jobs import Launch, Outcome, is_complete
from mixmo_fast.reproduce.plan import (
    PLAN,
    PlannedRun,
    ReproductionPlan,
    parse_seeds,
    plan_reproduction,
    read_plan,
)
from mixmo_fast.reproduce.preview import preview_lines, preview_table
from mixmo_fast.reproduce.watch import Watch
from mixmo_fast.tables import Column, Sheet, print_table
from mixmo_fast.terminal import say

_INTERRUPTED = 130
_MOST_PER_GPU = 48  # processes that one GPU serves through MPS


def reproduce(
    targets: Sequence[str],
    out: Path,
    data: Path,
    console: Console,
    *,
    seeds: str = "3",
    scale: float = 1.0,
    overrides: Sequence[str] = (),
    engine: str = "local",
    gpus: int | None = None,
    workers: int | None = None,
    runs_per_gpu: str = "1",
    retries: int = 3,
    device: str = "auto",
    pipeline: str = "resident",
    dry_run: bool = False,
    measured: Sequence[Path] = (),
    wide: bool = False,
) -> int:
    """Trains what was asked for, as far as it is not complete, and writes the results.

    Args:
        targets: `cifar10`, `cifar100`, `tiny`, `fashion`, `all`, or configuration files.
        out: The reproduction's folder.
        data: Folder of data sets.
        console: Where it is told what happens.
        seeds: A number of seeds, or seeds separated by commas.
        scale: Share of each schedule.
        overrides: `key=value` each.
        engine: `local`, or `ray`.
        gpus: How many GPUs; None: all there are.
        workers: How many runs at the same time on a CPU; None: one.
        runs_per_gpu: How many runs share each GPU at the same time, a whole number.
        retries: How often in a row a run that crashes is started again.
        device: `auto`, `cuda` or `cpu`.
        pipeline: How pixels reach the device.
        dry_run: Whether to print what would be done, and do nothing.
        measured: Results of `python -m benchmarks.training --json`, for the dry run's hours.
        wide: Whether tables have all columns, however narrow the terminal is.

    Returns:
        The exit code: 0 when all runs asked for are complete (or for a dry run), 1 when some are not, 130 when
        interrupted.

    Raises:
        MixmoError: On anything a user can mend before the first run is started.
    """
    _check(engine, device, gpus, workers, retries)
    share = _parse_runs_per_gpu(runs_per_gpu, device, workers)
    asked = plan_reproduction(targets, parse_seeds(seeds), scale, overrides, data)
    if dry_run:
        _preview(asked, out, data, gpus or workers, share, measured, console, wide)
        return 0

    tell = partial(say, console)
    outcomes = {run.key: Outcome(run.name, run.seed, "complete") for run in asked.runs if is_complete(run, out)}
    tell(f"{_count(len(asked.runs))}, {len(outcomes)} complete already, in {out}")
    left = [run for run in asked.runs if run.key not in outcomes]
    absent = _look_for_data(left, data, engine, tell)
    require_room(left, out, data)

    from mixmo_fast.run.build import check_pipeline, ensure_dataset  # torch takes seconds to import

    check_pipeline(pipeline)
    device, workers = _choose_workers(engine, device, gpus, workers, share)
    launch = Launch(out.resolve(), data.resolve(), device, workers, pipeline, retries, runs_per_gpu=share)
    plan = update_plan(asked, out)
    for name in dict.fromkeys(run.dataset for run in left):
        if name not in absent:
            ensure_dataset(name, launch.data, tell)  # once, and before many workers would
    try:
        with Watch(console, plan, launch.out, launch.workers):
            found = _engine(engine)(left, launch, tell) if left else ()
    except KeyboardInterrupt:
        tell("interrupted: all workers were ended, and the same command continues from their last checkpoints")
        return _INTERRUPTED
    outcomes |= {(one.name, one.seed): one for one in found}
    missing = [outcomes[run.key] for run in asked.runs if outcomes[run.key].status != "complete"]
    _compare(out, data, console, wide)
    if not missing:
        tell(f"{_count(len(asked.runs))}, all complete")
        return 0
    print_table(console, _missing_table(missing, len(asked.runs)), wide)
    tell(f"the same command tries them again: {asked.requests[0].command(out)}")
    return 1


def _check(engine: str, device: str, gpus: int | None, workers: int | None, retries: int) -> None:
    """Refuses numbers and names that no run could start with."""
    if engine not in ("local", "ray"):
        raise ConfigError(f"--engine: found {engine!r}, allowed: local, ray")
    if device not in ("auto", "cuda", "cpu"):
        raise ConfigError(f"--device: found {device!r}, allowed: auto, cuda, cpu")
    for name, number, least in (
        ("--gpus", gpus, 1),
        ("--workers", workers, 1),
        ("--retries", retries, 0),
    ):
        if number is not None and not least <= number <= 10_000:
            raise ConfigError(f"{name}: found {number}, allowed: {least} to 10000")
    if gpus is not None and (workers is not None or device == "cpu"):
        raise ConfigError("--gpus: counts GPUs; with --workers or --device cpu it means nothing")


def _parse_runs_per_gpu(text: str, device: str, workers: int | None) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MOST_PER_GPU):
        raise ConfigError(f"--runs-per-gpu: found {text}, allowed: a whole number from 1 to {_MOST_PER_GPU}")
    if int(text) > 1 and (workers is not None or device == "cpu"):
        raise ConfigError(
            f"--runs-per-gpu: found {text}, allowed: 1 with --workers or --device cpu; --workers says how many runs "
            "there are at the same time on a CPU"
        )
    return int(text)


def _preview(
    asked: ReproductionPlan,
    out: Path,
    data: Path,
    workers: int | None,
    runs_per_gpu: int,
    measured: Sequence[Path],
    console: Console,
    wide: bool,
) -> None:
    known = asked
    if (out / PLAN).is_file():
        known = extend(read_plan(out), asked, out)
    speeds = (*speeds_of_runs(known.runs, out), *map(read_speed, measured))
    print_table(console, preview_table(asked.runs, speeds, out), wide)
    for line in preview_lines(asked.runs, speeds, out, data, workers, runs_per_gpu):
        say(console, line)


def _choose_workers(
    engine: str, device: str, gpus: int | None, workers: int | None, runs_per_gpu: int
) -> tuple[str, int | None]:
    """The device of all runs, and how many run at the same time, on what this machine, or a cluster, has."""
    if engine == "ray":
        return device, gpus * runs_per_gpu if gpus else workers
    import torch

    from mixmo_fast.run.build import choose_device

    device = choose_device(device).type
    if device == "cuda":
        there = torch.cuda.device_count()
        if workers is not None:
            raise ConfigError("--workers: for a CPU; on GPUs use --gpus and --runs-per-gpu, or --device cpu")
        if gpus is not None and gpus > there:
            raise DeviceError(f"--gpus {gpus}: this machine has {there}")
        return device, (gpus or there) * runs_per_gpu
    if gpus is not None:
        raise DeviceError(f"--gpus {gpus}: torch sees no CUDA device here; use --workers on a CPU")
    if runs_per_gpu > 1:
        raise DeviceError(
            f"--runs-per-gpu: found {runs_per_gpu}, allowed: 1, since torch sees no CUDA device here; use --workers on "
            "a CPU"
        )
    return device, workers or 1


def _look_for_data(runs: Sequence[PlannedRun], data: Path, engine: str, tell: Callable[[str], None]) -> list[str]:
    """Refuses runs whose data set is nowhere; returns those data sets that only other machines may have."""
    names = [run.dataset for run in runs]
    if engine == "ray":
        from mixmo_fast.reproduce.cluster import is_elsewhere

        if is_elsewhere():
            absent = list(data_problems(names, data))
            if absent:
                tell(
                    f"not on this machine in {data}: {', '.join(absent)}; runs fail on machines of the cluster that do "
                    "not have them there either"
                )
            return absent
    require_data(names, data)
    return []


def _compare(out: Path, data: Path, console: Console, wide: bool) -> None:
    """Writes and prints the tables; what was trained counts even where they cannot be written."""
    from mixmo_fast.reproduce.reporting import write_comparison

    try:
        write_comparison([out], console, data=data, wide=wide)
    except MixmoError as error:
        say(
            console,
            f"the runs could not be compared: {error}; `mixmo-fast report {shlex.quote(str(out))}` tries again",
        )


def _engine(name: str) -> Callable[..., tuple[Outcome, ...]]:
    if name == "ray":
        from mixmo_fast.reproduce.cluster import run_on_ray

        return run_on_ray
    from mixmo_fast.reproduce.local import run_local

    return run_local


def _missing_table(missing: Sequence[Outcome], runs: int) -> Sheet:
    return Sheet(
        columns=(Column("configuration", "name"), Column("seed"), Column("status", "word"), Column("why", "prose")),
        rows=tuple((one.name, str(one.seed), one.status, one.line) for one in missing),
        title=f"{len(missing)} of {_count(runs)} not complete",
    )


def _count(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"
