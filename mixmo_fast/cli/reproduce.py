"""The commands for many runs: `reproduce`, `report` and `status`.

Only arguments are parsed here; see `mixmo_fast.cli.app`.
"""

from pathlib import Path
from typing import Annotated

import typer

from mixmo_fast.cli.options import DataOption, DeviceOption, OverrideOption, PipelineOption, WideOption, make_console
from mixmo_fast.cli.targets import require_folder

RunsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="RUNS", help="The --out of a reproduction, run folders, or folders of run folders."),
]


def reproduce(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT", help="cifar10, cifar100, tiny, all (the paper's 27 runs), fashion, or configuration files."
        ),
    ],
    seeds: Annotated[str, typer.Option(metavar="N|N,...", help="How many seeds, or which: 3, or 1,5.")] = "3",
    scale: Annotated[float, typer.Option(metavar="SHARE", help="Share of each schedule, for a rehearsal: 0.01.")] = 1.0,
    engine: Annotated[
        str, typer.Option(metavar="NAME", help="local: on this machine; ray: on a Ray cluster.")
    ] = "local",
    gpus: Annotated[int | None, typer.Option(metavar="N", help="How many GPUs. Default: all there are.")] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="On a CPU: how many runs at the same time. Default: one.")
    ] = None,
    runs_per_gpu: Annotated[
        str,
        typer.Option(metavar="N", help="How many runs share each GPU, as far as its memory holds them."),
    ] = "1",
    retries: Annotated[
        int, typer.Option(metavar="N", help="How often in a row a run that crashes is started again.")
    ] = 3,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where its runs and tables go.")] = Path(
        "runs/reproduce"
    ),
    data: DataOption = Path("data"),
    device: DeviceOption = "auto",
    pipeline: PipelineOption = "resident",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained and what it takes.")] = False,
    measured: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Results of `python -m benchmarks.training --json`, for the hours of --dry-run."
        ),
    ] = None,
    override: OverrideOption = None,
    wide: WideOption = False,
) -> None:
    """Train the paper's tables, or any configurations with several seeds; the same command continues."""
    from mixmo_fast.terminal import waiting

    if not dry_run:
        require_folder(out)
    console = make_console()
    with waiting(console, f"planning {' '.join(targets)}, in {out}"):
        from mixmo_fast.reproduce.command import reproduce as reproduce_all
        from mixmo_fast.training.compile_cache import keep_compiled

    keep_compiled()
    code = reproduce_all(
        targets,
        out,
        data,
        console,
        seeds=seeds,
        scale=scale,
        overrides=override or (),
        engine=engine,
        gpus=gpus,
        workers=workers,
        runs_per_gpu=runs_per_gpu,
        retries=retries,
        device=device,
        pipeline=pipeline,
        dry_run=dry_run,
        measured=measured or (),
        wide=wide,
    )
    if code:
        raise typer.Exit(code)


def report(
    runs: RunsArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Where the results go. Default: the one folder of runs."),
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="Also write every ended run's own page anew.")] = False,
    data: DataOption = Path("data"),
    wide: WideOption = False,
) -> None:
    """Compare runs with each other and with the paper: results.json, results.md, report.html."""
    from mixmo_fast.reproduce.reporting import write_comparison

    require_folder(out)
    write_comparison(runs, make_console(), out, each, data, wide)


def status(
    runs: Annotated[
        Path, typer.Argument(metavar="RUNS", help="The --out of a reproduction, a run folder, or a folder of them.")
    ],
    watch: Annotated[bool, typer.Option("--watch", help="Keep the table up to date until interrupted.")] = False,
    wide: WideOption = False,
) -> None:
    """Show how far runs are, from another shell than the one that trains."""
    from mixmo_fast.reproduce.status import show_status

    show_status(runs, make_console(), watch, wide)
