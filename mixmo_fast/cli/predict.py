"""The commands that put a trained network to use: `predict` and `export`.

Only arguments are parsed here; see `mixmo_fast.cli.app`.
"""

from pathlib import Path
from typing import Annotated

import typer

from mixmo_fast.cli.options import (
    BarOfWork,
    CheckpointOption,
    DataOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    RunsOption,
    TargetArgument,
    WideOption,
    make_console,
)
from mixmo_fast.cli.targets import require_folder, require_writable
from mixmo_fast.errors import MixmoError


def predict(
    target: TargetArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Picture files and folders of them.")],
    checkpoint: CheckpointOption = "last",
    top: Annotated[int, typer.Option(metavar="N", help="How many classes to name.")] = 5,
    members: Annotated[bool, typer.Option("--members", help="Also show each member's own opinion.")] = False,
    coverage: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Abstain below the confidence of so many of the test images, the surest first."
        ),
    ] = 0.9,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write a line for each picture to this file.")
    ] = None,
    json_file: JsonOption = None,
    data: DataOption = Path("data"),
    runs: RunsOption = Path("runs"),
    device: DeviceOption = "auto",
    wide: WideOption = False,
) -> None:
    """Say what pictures show, how sure that is, and where the network had better abstain."""
    require_writable(csv_file, json_file)
    console = make_console()
    with BarOfWork(console, f"predicting with {target}") as bar:
        from mixmo_fast.cli.predict_tables import closing_lines, predictions_csv, predictions_record, predictions_table
        from mixmo_fast.files import write_text
        from mixmo_fast.run.predict import open_predictor  # and with it torch, which takes seconds
        from mixmo_fast.runfolder.record import write_record
        from mixmo_fast.tables import print_table

        predictor = open_predictor(target, checkpoint, data=data, runs=runs, device=device, notify=console.print)
        found = predictor.predict(images, coverage, top, bar.show)
    saved = predictions_record(found, predictor)
    print_table(console, predictions_table(saved, members), wide)
    for line in closing_lines(saved):
        console.print(line)
    if csv_file is not None:
        write_text(csv_file, predictions_csv(saved.images, members))
    if json_file is not None:
        write_record(json_file, saved, indent=1)
    if not len(found):
        first = saved.images[0]
        raise MixmoError(f"no picture could be predicted, of {len(saved.images)}; {first.image}: {first.problem}")


def export(
    target: TargetArgument,
    format: Annotated[str, typer.Option("--format", metavar="NAME", help="onnx, torch-export or safetensors.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="PATH", help="The file or folder to write. Default: the run's name, here."),
    ] = None,
    checkpoint: CheckpointOption = "last",
    force: ForceOption = False,
    data: DataOption = Path("data"),
    runs: RunsOption = Path("runs"),
) -> None:
    """Write a trained network as a file for other programs, checked against torch.

    onnx and torch-export get the encoders folded into one convolution, with
    normalisation inside; safetensors is a folder that training can go on from.
    For the authors' scripts there is `mixmo-fast checkpoint export`.
    """
    from mixmo_fast.run.deploy import export_network

    require_folder(out and out.absolute().parent)
    console = make_console()
    found = export_network(target, format, out, checkpoint, data=data, runs=runs, force=force, notify=console.print)
    facts = found.facts
    console.print(
        f"wrote {found.path}: epoch {facts.epoch} of {facts.checkpoint}, {facts.members} members, {facts.classes} "
        f"classes, {found.bytes / 1e6:.2f} MB"
    )
    if found.format == "safetensors":
        console.print("the network as it was trained, bit for bit; mf.load_exported(folder) reads it")
    else:
        console.print(f"largest difference to torch: {found.difference:.1e}, {found.relative:.1e} of the largest logit")
    if found.missing:
        console.print(f"note: {found.missing}")
