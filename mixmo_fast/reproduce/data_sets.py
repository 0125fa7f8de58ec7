"""The data sets of all runs of a reproduction, which there have to be before the first is started.

What is missing is said at once and in one line, and not by one failed run after the other. Nothing is made here.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from mixmo_fast.errors import DataError
from pipelines.datasets.catalog import DATASETS
from pipelines.datasets.names import is_converted
from pipelines.datasets.sources import find_original
from pipelines.datasets.store import open_dataset


def require_data(names: Iterable[str], data: Path) -> None:
    """Looks for data sets, converted, or as originals that are converted before the first run.

    Args:
        names: The data sets'.
        data: Folder of data sets.

    Raises:
        DataError: One or several are missing, or damaged; one line with all of them and the commands that mend it.
    """
    asked = list(dict.fromkeys(names))
    if problems := data_problems(asked, data):
        many = f"nothing was started, {len(problems)} of {len(asked)} data sets cannot be used: "
        raise DataError(f"{many if len(asked) > 1 else ''}{'; '.join(problems.values())}")


def require_known(names: Sequence[str], data: Path) -> None:
    """Refuses data sets of which nobody can say how large they are: no row of the catalogue, nor a folder.

    Raises:
        DataError: As `require_data`, with those of the catalogue that are missing, too.
    """
    if not all(name in DATASETS or is_converted(data, name) for name in names):
        require_data(names, data)


def data_problems(names: Iterable[str], data: Path) -> dict[str, str]:
    """The data sets that cannot be used: what hinders each, and the command that mends it; arguments as above."""
    problems = {}
    for name in dict.fromkeys(names):
        info = DATASETS.get(name)  # None: only its folder knows it
        if info and not is_converted(data, name) and (info.embedded or find_original(info, data) is not None):
            continue
        try:
            open_dataset(data, name)
        except DataError as error:
            problems[name] = str(error)
    return problems
