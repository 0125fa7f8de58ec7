"""The commands that look at what a network is fed, `convert` and `preview`.

Only arguments are parsed here; see `mixmo_fast.cli.app`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from mixmo_fast.cli.options import (
    BarOfWork,
    ConfigArgument,
    DataOption,
    DeviceOption,
    OverrideOption,
    PipelineOption,
    SeedOption,
    make_console,
)
from mixmo_fast.cli.targets import require_writable
from mixmo_fast.errors import ConfigError
from pipelines.datasets.names import FOLDER


def convert(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="digits, fashion_mnist, cifar10, cifar100 or tinyimagenet; or folder, and then where your images are.",
        ),
    ],
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PATH",
            help="With folder: class folders, a table (.csv, .jsonl), parquet files or WebDataset tars.",
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Originals: a folder or an archive. Default: look in --data, else download."),
    ] = None,
    data: DataOption = Path("data"),
    force: Annotated[bool, typer.Option("--force", help="Convert again and replace the folder.")] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Accept originals that are not the published ones.")
    ] = False,
    own_name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="With folder: what the data set is called.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="With folder: pixels of a side. Default: the images' own if one and square, else 64."
        ),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(metavar="HOW", help="With folder: crop (default), pad or stretch what is not square."),
    ] = None,
    val: Annotated[
        Path | None, typer.Option(metavar="PATH", help="With folder: the test images, in a place of their own.")
    ] = None,
    val_fraction: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="With folder: of each class, drawn to test on where none are named. Default: 0.1."
        ),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="With folder: leave out images that cannot be read.")
    ] = False,
) -> None:
    """Convert a data set once, one of the known or your own images, into FFCV's and DALI's formats."""
    own = {
        "PATH": path,
        "--name": own_name,
        "--size": size,
        "--fit": fit,
        "--val": val,
        "--val-fraction": val_fraction,
        "--skip-bad": skip_bad or None,
    }
    _refuse_options_of_the_other_form(name, own, {"--source": source, "--no-verify": no_verify or None})
    console = make_console()
    with BarOfWork(console, f"converting {own_name or name}") as bar:
        if path is not None and own_name is not None:
            from pipelines.datasets.own.convert import convert_folder

            result = convert_folder(
                path,
                own_name,
                data,
                size=size,
                fit=fit or "crop",
                val=val,
                val_fraction=val_fraction,
                skip_bad=skip_bad,
                force=force,
                notify=console.print,
                progress=bar.show,
            )
        else:
            from pipelines.datasets.convert import convert as convert_dataset

            result = convert_dataset(
                name, data, source=source, force=force, verify=not no_verify, notify=console.print, progress=bar.show
            )
    dataset = result.dataset
    state = "is already converted and whole" if result.already else f"converted in {result.seconds:.1f} s"
    console.print(
        f"{dataset.title} {state}: {dataset.train_images:,} training and {dataset.test_images:,} test images of "
        f"{dataset.height}x{dataset.width}, {dataset.classes} classes, in {dataset.folder}",
    )


def _refuse_options_of_the_other_form(
    name: str, of_folder: Mapping[str, object], of_known: Mapping[str, object]
) -> None:
    """Holds apart `convert NAME` and `convert folder PATH`, whose options share a command.

    Args:
        name: The first argument.
        of_folder: What was given of the second form's; None where it was not.
        of_known: Likewise, of the first form's.

    Raises:
        ConfigError: With the first that does not belong, or that is missing.
    """
    others, form = (of_known, f"convert {FOLDER} PATH") if name == FOLDER else (of_folder, f"convert {name}")
    given = next((option for option, value in others.items() if value is not None), None)
    if given:
        where = "with the name of a known data set" if name == FOLDER else f"in `convert {FOLDER} PATH --name NAME`"
        raise ConfigError(f"{given}: found in `{form}`, allowed: {where}")
    missing = next((option for option in ("PATH", "--name") if of_folder[option] is None), None)
    if name == FOLDER and missing:
        raise ConfigError(f"{missing}: missing, allowed: convert {FOLDER} PATH --name NAME")


def preview(
    config: ConfigArgument,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The picture to write, e.g. preview.png.")],
    data: DataOption = Path("data"),
    epoch: Annotated[int, typer.Option(metavar="N", help="Counted from 1.")] = 1,
    step: Annotated[
        int | None,
        typer.Option(metavar="N", help="Counted from 0 within the epoch. Default: the first that mixes patches."),
    ] = None,
    rows_shown: Annotated[int, typer.Option(metavar="N", help="How many rows of the step.")] = 6,
    pipeline: PipelineOption = "resident",
    device: DeviceOption = "cpu",
    seed: SeedOption = None,
    override: OverrideOption = None,
) -> None:
    """Draw what a configuration feeds its network, without training."""
    from mixmo_fast.run.preview import preview_run

    require_writable(out)
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
