"""The commands that look at what was trained, `evaluate` and `inspect`, and at configurations, `config`.

Only arguments are parsed here; see `mixmo_fast.cli.app`.
"""

from pathlib import Path
from typing import Annotated

import typer

from mixmo_fast.cli.options import (
    BarOfWork,
    CheckpointOption,
    DataOption,
    DebugOption,
    DeviceOption,
    JsonOption,
    OutOption,
    OverrideOption,
    RunsOption,
    TargetArgument,
    make_console,
)

config_app = typer.Typer(name="config", help="Make, translate and explain configurations.", no_args_is_help=True)

MAY_STAND_ALONE = ("--robustness", "--corruptions")
"""Options of `evaluate` whose value may be left out, and then is `auto`; the parser itself knows no such thing."""


def evaluate(
    target: TargetArgument,
    checkpoint: CheckpointOption = "best",
    data: DataOption = Path("data"),
    runs: RunsOption = Path("runs"),
    device: DeviceOption = "auto",
    precision: Annotated[str | None, typer.Option(help="fp32, tf32, bf16 or fp16. Default: as it was trained.")] = None,
    ensemble: Annotated[
        str, typer.Option(help="What of the members is averaged: logits, as in the paper, or probabilities.")
    ] = "logits",
    temperature_scaling: Annotated[
        bool,
        typer.Option(
            "--temperature-scaling",
            *("--tempscale", "--tempscal"),
            help="Also show the scores after temperature scaling.",
        ),
    ] = False,
    calibrate_on: Annotated[
        str | None,
        typer.Option(
            help="Fit the temperature on test-halves, each for the other, or on train-holdout (see data.holdout)."
        ),
    ] = None,
    robustness: Annotated[
        str | None,
        typer.Option(
            "--robustness",
            "--corruptions",
            metavar="[FOLDER|synthetic]",
            help="Also evaluate under corruptions: CIFAR-10-C or CIFAR-100-C, or ones computed here.",
        ),
    ] = None,
    mce_against: Annotated[
        Path | None,
        typer.Option(help="Run folder that the mean corruption error is relative to."),
    ] = None,
    ood: Annotated[
        list[str] | None,
        typer.Option(metavar="DATASET", help="Also tell this data set's images apart; repeatable."),
    ] = None,
    json_file: JsonOption = None,
    save_predictions: Annotated[
        Path | None, typer.Option(help="Write each member's logits and the labels to this .npz.")
    ] = None,
    out: OutOption = None,
    debug: DebugOption = False,
) -> None:
    """Evaluate a checkpoint on the test split, and draw what was found."""
    from mixmo_fast.cli.evaluation_tables import evaluation_tables
    from mixmo_fast.run.evaluate import EvaluateOptions, evaluate_run
    from mixmo_fast.run.evaluate import save_predictions as save
    from mixmo_fast.run.page import record_evaluation
    from mixmo_fast.runfolder.record import write_record

    console = make_console()
    options = EvaluateOptions(
        *(target, checkpoint, data, runs, device, precision, ensemble, calibrate_on or "test-halves"),
        *(robustness, mce_against, tuple(dict.fromkeys(ood or ()))),
    )
    with BarOfWork(console) as bar:
        found = evaluate_run(options, console.print, bar.show)
    for table in evaluation_tables(found, scaled=temperature_scaling or calibrate_on is not None):
        console.print(table)
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
    debug: DebugOption = False,
) -> None:
    """Show how the members share a trained network: filters, diversity, and what each more of them brings."""
    from mixmo_fast.cli.evaluation_tables import inspection_tables
    from mixmo_fast.run.inspect import inspect_run
    from mixmo_fast.run.page import record_inspection
    from mixmo_fast.runfolder.record import write_record

    console = make_console()
    found = inspect_run(target, checkpoint, data, runs, device, console.print)
    for table in inspection_tables(found):
        console.print(table)
    if json_file is not None:
        write_record(json_file, found.record(), indent=1)
    _record(record_inspection, found, out, console)


def _record(record, found, out: Path | None, console) -> None:
    folder = out or found.trained.run
    if folder is None:
        console.print("The checkpoint is in no run folder, so no pictures were drawn: --out FOLDER says where to")
        return
    record(found, folder)
    console.print(f"Numbers and pictures are in {folder}")


@config_app.command("new")
def new(
    name: Annotated[
        str,
        typer.Argument(help="Of a run, published or not: exp_cifar100_wrn2810-3_cutmixmo-p2_daaugmix_bar2, say."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the YAML file.")] = Path("configs"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    debug: DebugOption = False,
) -> None:
    """Write the configuration that a run's name stands for."""
    from mixmo_fast.run.configs import new_config

    make_console().print(f"wrote {new_config(name, out, force)}")


@config_app.command("import")
def import_(
    old: Annotated[Path, typer.Argument(help="A YAML file of mixmo-pytorch.")],
    new: Annotated[Path, typer.Option("--out", "-o", help="The YAML file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    debug: DebugOption = False,
) -> None:
    """Write a configuration of the authors' implementation in this program's form."""
    from mixmo_fast.run.configs import import_config

    console = make_console()
    imported = import_config(old, new, force)
    for note in imported.notes:
        console.print(f"- {note}")
    console.print(f"wrote {new}")


@config_app.command("explain")
def explain_(
    config: Annotated[Path, typer.Argument(help="A configuration file, of this program or of mixmo-pytorch.")],
    override: OverrideOption = None,
    debug: DebugOption = False,
) -> None:
    """Tell in plain words what a configuration does, with its formulas and numbers."""
    from rich.text import Text

    from mixmo_fast.run.configs import explain_config

    console = make_console()
    for passage in explain_config(config, tuple(override or ()), console.print):
        console.print(Text(f"\n{passage.heading}", style="bold"))
        console.print(passage.text, width=min(console.width, 100), soft_wrap=False)
