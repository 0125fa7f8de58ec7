"""The command `doctor`: what this machine has.

Only arguments are parsed here; see `mixmo_fast.cli.app`.
"""

from pathlib import Path
from typing import Annotated

import typer

from mixmo_fast.cli.options import DataOption, JsonOption, WideOption, make_console
from mixmo_fast.cli.targets import require_writable


def doctor(
    data: DataOption = Path("data"),
    verify: Annotated[bool, typer.Option("--verify", help="Also read the data sets and compare checksums.")] = False,
    json_file: JsonOption = None,
    wide: WideOption = False,
) -> None:
    """Say what this machine has, and what to run for what is missing.

    Exit code 2 where nothing can be trained, or a converted data set is damaged.
    Sizes of files and dataset.json are always compared; --verify reads all files.
    """
    from mixmo_fast.doctor.examine import examine, findings_table, in_words, trainable, undamaged, write_json
    from mixmo_fast.tables import print_table

    require_writable(json_file)
    console = make_console()
    with console.status("looking around"):
        findings = examine(data, verify)
    print_table(console, findings_table(findings), wide)
    for line in in_words(findings):
        console.print(line)
    if json_file is not None:
        write_json(findings, json_file)
    if not (trainable(findings) and undamaged(findings)):
        raise typer.Exit(2)
