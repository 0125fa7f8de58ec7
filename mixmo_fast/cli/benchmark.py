"""The command `benchmark`: the pipelines' speed.

Only arguments are parsed here; see `mixmo_fast.cli.app`.
"""

from pathlib import Path
from typing import Annotated

import typer

from mixmo_fast.cli.options import (
    CacheOption,
    ConfigArgument,
    DataOption,
    DeviceOption,
    JsonOption,
    OverrideOption,
    WideOption,
    WorkersOption,
    make_console,
)
from mixmo_fast.cli.targets import require_writable


def benchmark(
    config: ConfigArgument,
    pipelines: Annotated[
        str, typer.Option(metavar="NAMES", help="The contestants, separated by commas.")
    ] = "resident,ffcv,dali,reference",
    rows: Annotated[
        str | None, typer.Option(metavar="N,...", help="Rows of a step, e.g. 64,1024. Default: the configuration's.")
    ] = None,
    synthetic: Annotated[
        str | None, typer.Option(metavar="DATASET", help="Random images in the shape of this data set, instead of it.")
    ] = None,
    data: DataOption = Path("data"),
    workers: WorkersOption = None,
    cache: CacheOption = "os",
    device: DeviceOption = "auto",
    repetitions: Annotated[int, typer.Option(metavar="N", help="Turns of each contestant; medians are quoted.")] = 7,
    seconds: Annotated[float, typer.Option(metavar="S", help="Of a turn, at least.")] = 2.0,
    steps: Annotated[
        int, typer.Option(metavar="N", help="Also train so many steps a turn, on new batches and on a frozen one.")
    ] = 0,
    json_file: JsonOption = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw a bar chart into this file.")] = None,
    override: OverrideOption = None,
    wide: WideOption = False,
) -> None:
    """Measure how fast the pipelines deliver batches, side by side."""
    from mixmo_fast.terminal import waiting

    require_writable(json_file, plot)
    console = make_console()
    with waiting(console, f"{config.stem}: loading torch"):
        from benchmarks.command import run_benchmark

    run_benchmark(
        config,
        data,
        console,
        synthetic=synthetic,
        pipelines=pipelines,
        rows=rows,
        workers=workers,
        cache=cache,
        device=device,
        repetitions=repetitions,
        seconds=seconds,
        steps=steps,
        json_file=json_file,
        plot=plot,
        overrides=override or (),
        wide=wide,
    )
