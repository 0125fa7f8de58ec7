"""The commands of `config`: make, translate and explain configurations.

Only arguments are parsed here; see `mixmo_fast.cli.app`.
"""

from pathlib import Path
from typing import Annotated

import typer

from mixmo_fast.cli.options import ConfigArgument, DataOption, ForceOption, OverrideOption, make_console


def new(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Of a run, published or not: exp_cifar100_wrn2810-3_cutmixmo-p2_daaugmix_bar2, say."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the YAML file goes.")] = Path(
        "configs"
    ),
    force: ForceOption = False,
) -> None:
    """Write the configuration that a run's name stands for."""
    from mixmo_fast.run.configs import new_config

    make_console().print(f"wrote {new_config(name, out, force)}")


def import_(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A YAML file of mixmo-pytorch.")],
    new: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The YAML file to write.")],
    force: ForceOption = False,
) -> None:
    """Write a configuration of the authors' implementation in this program's form."""
    from mixmo_fast.run.configs import import_config

    console = make_console()
    imported = import_config(old, new, force)
    for note in imported.notes:
        console.print(f"- {note}")
    console.print(f"wrote {new}")


def explain(
    config: ConfigArgument,
    data: DataOption = Path("data"),
    override: OverrideOption = None,
) -> None:
    """Tell in plain words what a configuration does, with its formulas and numbers."""
    from rich.text import Text

    from mixmo_fast.run.configs import explain_config

    console = make_console()
    for passage in explain_config(config, override or (), console.print, data):
        console.print(Text(f"\n{passage.heading}", style="bold"))
        console.print(passage.text, width=min(console.width, 100), soft_wrap=False)
