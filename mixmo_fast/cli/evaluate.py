"""The commands that look at what was trained: `evaluate` and `inspect`.

Only arguments are parsed here; see `mixmo_fast.cli.app`.
"""

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from mixmo_fast.cli.options import (
    BarOfWork,
    CheckpointOption,
    DataOption,
    DeviceOption,
    JsonOption,
    RunsOption,
    TargetArgument,
    WideOption,
    make_console,
)
from mixmo_fast.cli.targets import require_folder, require_writable

OutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FOLDER", help="Where numbers, pictures and page go. Default: the run folder."),
]


def evaluate(
    target: TargetArgument,
    checkpoint: CheckpointOption = "last",
    data: DataOption = Path("data"),
    runs: RunsOption = Path("runs"),
    device: DeviceOption = "auto",
    precision: Annotated[
        str | None, typer.Option(metavar="NAME", help="fp32, tf32, bf16 or fp16. Default: as it was trained.")
    ] = None,
    ensemble: Annotated[
        str,
        typer.Option(
            metavar="WHAT", help="What of the members is averaged: logits, as in the paper, or probabilities."
        ),
    ] = "logits",
    temperature_scaling: Annotated[
        bool, typer.Option("--temperature-scaling", help="Also show the scores after temperature scaling.")
    ] = False,
    calibrate_on: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Fit the temperature on test-halves, each for the other, or on train-holdout (see data.holdout).",
        ),
    ] = None,
    robustness: Annotated[
        str | None,
        typer.Option(
            metavar="[FROM]",
            help="Also evaluate under corruptions: CIFAR-C's, looked for in --data or in the folder that is named, or "
            "synthetic ones, computed here.",
        ),
    ] = None,
    mce_against: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Run folder that the mean corruption error is relative to."),
    ] = None,
    ood: Annotated[
        list[str] | None,
        typer.Option(metavar="DATASET", help="Also tell this data set's images apart; repeatable."),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET", help="Score another data set of the same classes instead of the network's own."
        ),
    ] = None,
    json_file: JsonOption = None,
    save_predictions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write each member's logits and the labels to this .npz."),
    ] = None,
    out: OutOption = None,
    wide: WideOption = False,
) -> None:
    """Evaluate a checkpoint on the test split, and draw what was found.

    By default that of the last epoch, which nobody chose. best is chosen by its
    own test accuracy, as the published figures are, and flatters. Each keeps
    what is its own.
    """
    require_writable(json_file, save_predictions)
    require_folder(out)
    console = make_console()
    with BarOfWork(console, f"evaluating {target}") as bar:
        from mixmo_fast.cli.evaluation_tables import evaluation_tables  # and with it torch, which takes seconds
        from mixmo_fast.run.evaluate import evaluate_run
        from mixmo_fast.run.evaluate import save_predictions as save
        from mixmo_fast.run.page import record_evaluation
        from mixmo_fast.runfolder.record import write_record
        from mixmo_fast.tables import print_table

        found = evaluate_run(
            target,
            console.print,
            bar.show,
            checkpoint=checkpoint,
            data=data,
            runs=runs,
            device=device,
            precision=precision,
            ensemble=cast("Literal['logits', 'probabilities']", ensemble),  # or it is refused there
            calibrate_on=calibrate_on or "test-halves",
            robustness=robustness,
            mce_against=mce_against,
            ood=dict.fromkeys(ood or ()),
            on=on,
        )
    for table in evaluation_tables(found, scaled=temperature_scaling or calibrate_on is not None):
        print_table(console, table, wide)
    if json_file is not None:
        write_record(json_file, found.record(), indent=1)
    if save_predictions is not None:
        save(found, save_predictions)
    _record(record_evaluation, found, out, console)


def inspect(
    target: TargetArgument,
    checkpoint: CheckpointOption = "last",
    data: DataOption = Path("data"),
    runs: RunsOption = Path("runs"),
    device: DeviceOption = "auto",
    json_file: JsonOption = None,
    out: OutOption = None,
    wide: WideOption = False,
) -> None:
    """Show how the members share a trained network: filters, diversity, and what each more of them brings."""
    from mixmo_fast.terminal import waiting

    require_writable(json_file)
    require_folder(out)
    console = make_console()
    with waiting(console, f"inspecting {target}"):
        from mixmo_fast.cli.evaluation_tables import inspection_tables  # and with it torch, which takes seconds
        from mixmo_fast.run.inspect import inspect_run
        from mixmo_fast.run.page import record_inspection
        from mixmo_fast.runfolder.record import write_record
        from mixmo_fast.tables import print_table

        found = inspect_run(target, checkpoint, data, runs, device, console.print)
    for table in inspection_tables(found):
        print_table(console, table, wide)
    if json_file is not None:
        write_record(json_file, found.record(), indent=1)
    _record(record_inspection, found, out, console)


def _record(record, found, out: Path | None, console) -> None:
    from mixmo_fast.terminal import waiting

    folder = out or (None if found.trained.on else found.trained.run)
    if folder is None and found.trained.on:
        console.print(f"{found.trained.run} keeps what it has of its own data: --json FILE or --out FOLDER keeps this")
        return
    if folder is None:
        console.print("The checkpoint is in no run folder, so no pictures were drawn: --out FOLDER says where to")
        return
    with waiting(console, "drawing pictures and page"):
        place = record(found, folder)
    console.print(f"Numbers and pictures are in {place}")
