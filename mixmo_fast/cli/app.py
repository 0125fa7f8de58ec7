"""The command line: `mixmo-fast doctor`, `convert`, `preview`, `train`, `evaluate` and more.

Only arguments are parsed here. Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

import errno
import os
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

import typer

from mixmo_fast.cli.options import (
    BarOfWork,
    CacheOption,
    DataOption,
    DebugOption,
    DeviceOption,
    JsonOption,
    OverrideOption,
    PipelineOption,
    WorkersOption,
    make_console,
)
from mixmo_fast.cli.reproduce import report, reproduce, status
from mixmo_fast.cli.results import MAY_STAND_ALONE, config_app, evaluate, inspect
from mixmo_fast.cli.train import FLAGS_OF_THE_AUTHORS, checkpoint_app, train
from mixmo_fast.errors import MixmoError

app = typer.Typer(
    name="mixmo-fast",
    help="MixMo: several subnetworks in one network, trained at the speed of the hardware.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def doctor(
    data: DataOption = Path("data"),
    verify: Annotated[bool, typer.Option("--verify", help="Also read the data sets and compare checksums.")] = False,
    json_file: JsonOption = None,
    debug: DebugOption = False,
) -> None:
    """Say what this machine has, and what to run for what is missing."""
    from mixmo_fast.doctor.examine import examine, findings_table, in_words, trainable, write_json

    console = make_console()
    with console.status("looking around"):
        findings = examine(data, verify)
    console.print(findings_table(findings), soft_wrap=False)
    for line in in_words(findings):
        console.print(line)
    if json_file is not None:
        write_json(findings, json_file)
    if not trainable(findings):
        raise typer.Exit(2)


@app.command()
def convert(
    name: Annotated[str, typer.Argument(help="digits, fashion_mnist, cifar10, cifar100 or tinyimagenet.")],
    source: Annotated[
        Path | None, typer.Option(help="Originals: a folder or an archive. Default: look in --data, else download.")
    ] = None,
    data: DataOption = Path("data"),
    force: Annotated[bool, typer.Option("--force", help="Convert again and replace the folder.")] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Accept originals that are not the published ones.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Convert a data set once, into FFCV's and DALI's formats."""
    from pipelines.datasets.convert import convert as convert_dataset

    console = make_console()
    with BarOfWork(console) as bar:
        result = convert_dataset(
            name, data, source=source, force=force, verify=not no_verify, notify=console.print, progress=bar.show
        )
    dataset = result.dataset
    state = "is already converted and whole" if result.already else f"converted in {result.seconds:.1f} s"
    console.print(
        f"{dataset.title} {state}: {dataset.train_images:,} training and {dataset.test_images:,} test images of "
        f"{dataset.height}x{dataset.width}, {dataset.classes} classes, in {dataset.folder}",
    )


@app.command()
def preview(
    config: Annotated[Path, typer.Argument(help="A configuration file; its name names the run.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture to write, e.g. preview.png.")],
    data: DataOption = Path("data"),
    epoch: Annotated[int, typer.Option(help="Counted from 1.")] = 1,
    step: Annotated[
        int | None, typer.Option(help="Counted from 0 within the epoch. Default: the first that mixes patches.")
    ] = None,
    rows_shown: Annotated[int, typer.Option(help="How many rows of the step.")] = 6,
    pipeline: PipelineOption = "resident",
    device: Annotated[str, typer.Option("--device", help="auto, cuda or cpu; the pixels are the same.")] = "cpu",
    seed: Annotated[int | None, typer.Option(help="Instead of the configuration's.")] = None,
    override: OverrideOption = None,
    debug: DebugOption = False,
) -> None:
    """Draw what a configuration feeds its network, without training."""
    from mixmo_fast.run.preview import PreviewOptions, preview_run

    console = make_console()
    options = PreviewOptions(config, out, data, pipeline, device, seed, epoch, step, rows_shown, tuple(override or ()))
    drawn = preview_run(options, console.print)
    console.print(f"{drawn}, in {out}")


app.command(epilog=FLAGS_OF_THE_AUTHORS)(train)
app.command()(evaluate)
app.command()(inspect)
app.command()(reproduce)
app.command()(report)
app.command()(status)


@app.command()
def benchmark(
    config: Annotated[Path, typer.Argument(help="A configuration file: what is drawn, mixed and how large.")],
    pipelines: Annotated[
        str, typer.Option(help="The contestants, separated by commas.")
    ] = "resident,ffcv,dali,reference",
    rows: Annotated[
        str | None, typer.Option(help="Rows of a step, e.g. 64,1024. Default: the configuration's.")
    ] = None,
    synthetic: Annotated[
        str | None, typer.Option(metavar="NAME", help="Random images in the shape of this data set, instead of it.")
    ] = None,
    data: DataOption = Path("data"),
    workers: WorkersOption = None,
    cache: CacheOption = "os",
    device: DeviceOption = "auto",
    repetitions: Annotated[int, typer.Option(help="Turns of each contestant; medians are quoted.")] = 7,
    seconds: Annotated[float, typer.Option(help="Of a turn, at least.")] = 2.0,
    steps: Annotated[
        int, typer.Option(help="Also train so many steps a turn, on new batches and on a frozen one.")
    ] = 0,
    json_file: JsonOption = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a bar chart into this file.")] = None,
    override: OverrideOption = None,
    debug: DebugOption = False,
) -> None:
    """Measure how fast the pipelines deliver batches, side by side."""
    from mixmo_fast.cli.benchmark import BenchmarkOptions, run_benchmark

    options = BenchmarkOptions(
        config=config,
        data=data,
        synthetic=synthetic,
        pipelines=pipelines,
        rows=rows,
        workers=workers,
        cache=cache,
        device=device,
        repetitions=repetitions,
        seconds=seconds,
        steps=steps,
        json=json_file,
        plot=plot,
        overrides=tuple(override or ()),
    )
    run_benchmark(options, make_console())


app.add_typer(config_app)
app.add_typer(checkpoint_app)


def _spelt_out(arguments: Sequence[str]) -> list[str]:
    """The arguments with the value of each option that stands alone though it may have one."""
    spelt = []
    for word, after in zip_longest(arguments, arguments[1:]):
        spelt.append(word)
        if word in MAY_STAND_ALONE and (after is None or after.startswith("-")):
            spelt.append("auto")
    return spelt


def main() -> None:
    """Runs a command; a mendable error is one line on stderr and exit code 2."""
    try:
        app(_spelt_out(sys.argv[1:]))
    except MixmoError as error:
        if "--debug" in sys.argv:
            raise
        print(f"mixmo-fast: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output has gone (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # Checkpoints and conversions say more; this is for whatever else was being written: a picture, an event.
        mendable = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
        if error.errno not in mendable or "--debug" in sys.argv:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"mixmo-fast: {where}{error.strerror}; nothing older is lost", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
