"""The command line: `mixmo-fast doctor`, `convert`, `preview`, `train` and `evaluate`.

Only arguments are parsed here. Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mixmo_fast.errors import MixmoError

app = typer.Typer(
    name="mixmo-fast",
    help="MixMo: several subnetworks in one network, trained at the speed of the hardware.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DataOption = Annotated[Path, typer.Option("--data", help="Folder of data sets, original and converted.")]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder of run folders.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cuda or cpu.")]
PipelineOption = Annotated[str, typer.Option(help="How pixels reach the device: resident, ffcv, dali or reference.")]
WorkersOption = Annotated[
    int | None, typer.Option(help="Processes or threads of ffcv, dali and reference. Default: one a core.")
]
CacheOption = Annotated[
    str, typer.Option(help="Who keeps FFCV's file in memory: os, or process for files that outgrow it.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.command()
def doctor(
    data: DataOption = Path("data"),
    verify: Annotated[bool, typer.Option("--verify", help="Also read the data sets and compare checksums.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the findings to this file.")] = None,
    debug: DebugOption = False,
) -> None:
    """Say what this machine has, and what to run for what is missing."""
    from mixmo_fast.doctor_command import examine, findings_table, in_words, trainable, write_json

    console = _console()
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
    from pipelines.convert import convert as convert_dataset

    console = _console()
    with _BarOfWork(console) as bar:
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
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override, e.g. msda=null.")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Draw what a configuration feeds its network, without training."""
    from mixmo_fast.preview_command import PreviewOptions, preview_run

    console = _console()
    options = PreviewOptions(config, out, data, pipeline, device, seed, epoch, step, rows_shown, tuple(override or ()))
    drawn = preview_run(options, console.print)
    console.print(f"{drawn}, in {out}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A configuration file; its name names the run.")],
    data: DataOption = Path("data"),
    runs: RunsOption = Path("runs"),
    pipeline: PipelineOption = "resident",
    workers: WorkersOption = None,
    cache: CacheOption = "os",
    device: DeviceOption = "auto",
    seed: Annotated[int | None, typer.Option(help="Instead of the configuration's.")] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Forget an earlier run of that name instead of continuing it.")
    ] = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same bits on every run on one kind of device.")
    ] = False,
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override, e.g. optimizer.lr=0.01.")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Train a configuration, or continue it where it stopped; torchrun starts it on several GPUs."""
    from mixmo_fast.train_command import TrainOptions, train_run

    options = TrainOptions(
        *(config, data, runs, pipeline, workers, cache, device, seed, from_scratch, deterministic),
        overrides=tuple(override or ()),
    )
    try:
        train_run(options, _console())
    except KeyboardInterrupt:
        print("mixmo-fast: interrupted; the same command continues from the last checkpoint", file=sys.stderr)
        raise typer.Exit(130) from None


@app.command()
def evaluate(
    target: Annotated[Path, typer.Argument(help="A configuration file, or a run folder.")],
    checkpoint: Annotated[str, typer.Option(help="best, last, the number of a kept epoch, or a path.")] = "best",
    data: DataOption = Path("data"),
    runs: RunsOption = Path("runs"),
    device: DeviceOption = "auto",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the scores to this file.")] = None,
    save_predictions: Annotated[
        Path | None, typer.Option(help="Write each member's logits and the labels to this .npz.")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Evaluate a checkpoint on the test split."""
    import json

    from mixmo_fast.evaluate_command import evaluate_run
    from mixmo_fast.evaluate_command import save_predictions as save
    from mixmo_fast.evaluation.table import scores_table
    from mixmo_fast.training.runlog import write_text

    console = _console()
    found = evaluate_run(target, checkpoint, data, runs, device, console.print)
    console.print(scores_table(found.scores, f"{found.dataset}, {len(found.labels):,} test images, {found.checkpoint}"))
    if json_file is not None:
        write_text(json_file, json.dumps(found.as_dict(), indent=1) + "\n")
    if save_predictions is not None:
        save(found, save_predictions)


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
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a bar chart into this file.")] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override, e.g. network.members=3.")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Measure how fast the pipelines deliver batches, side by side."""
    from mixmo_fast.benchmark_command import BenchmarkOptions, run_benchmark

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
    run_benchmark(options, _console())


def _console():
    from rich.console import Console

    # Where no terminal tells its width (a pipe, a log) lines are not broken at 80 columns.
    return Console(width=None if sys.stdout.isatty() else 160, markup=False, highlight=False, soft_wrap=True)


class _BarOfWork:
    """A progress bar that appears with the first report of work; silent where there is no terminal."""

    def __init__(self, console):
        from rich.progress import Progress

        self._bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._tasks = {}

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def show(self, description: str, done: int, total: int) -> None:
        """Reports `done` of `total` pieces of some work."""
        if description not in self._tasks:
            self._tasks[description] = self._bar.add_task(description, total=total)
        self._bar.update(self._tasks[description], completed=done, total=total)


def main() -> None:
    """Runs a command; a mendable error is one line on stderr and exit code 2."""
    try:
        app()
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
