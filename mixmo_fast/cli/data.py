"""The commands that look at what a network is fed, `convert` and `preview`.

Only arguments are parsed here; see `mixmo_fast.cli.app`.
"""

from pathlib import Path
from typing import Annotated

import typer

from mixmo_fast.cli.options import BarOfWork, DataOption, OverrideOption, PipelineOption, make_console


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
) -> None:
    """Draw what a configuration feeds its network, without training."""
    from mixmo_fast.run.preview import preview_run

    console = make_console()
    drawn = preview_run(
        config,
        out,
        console.print,
        data=data,
        pipeline=pipeline,
        device=device,
        seed=seed,
        epoch=epoch,
        step=step,
        rows_shown=rows_shown,
        overrides=override or (),
    )
    console.print(f"{drawn}, in {out}")
