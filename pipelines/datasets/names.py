"""Which data sets there are: those that the catalogue can make, and whatever lies converted in the data folder.

And what is no data wherever it lies. Names and files only; nothing here reads an image.
"""

import difflib
import re
import shlex
from pathlib import Path

from mixmo_fast.errors import DataError
from pipelines.datasets.catalog import DATASETS

MANIFEST = "dataset.json"
"""The file that makes a folder a data set."""

NAME_PATTERN = r"[a-z][a-z0-9_]{0,63}"
"""What a data set may be called, in a configuration as in a folder."""

FOLDER = "folder"
"""The word of `mixmo-fast convert` that stands for a user's own images, where names of the catalogue stand."""

_MOST_LISTED = 10
_HIDDEN = ("__macosx", "thumbs.db", "desktop.ini")


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is never data: hidden, or an operating system's own."""
    return name.startswith(".") or name.casefold() in _HIDDEN


def is_name(name: str) -> bool:
    """Whether a data set may be called so."""
    return re.fullmatch(NAME_PATTERN, name) is not None


def is_converted(data_dir: Path, name: str) -> bool:
    """Whether there is a folder of that name with a manifest; nothing is read."""
    return is_name(name) and (data_dir / name / MANIFEST).is_file()


def converted_names(data_dir: Path) -> list[str]:
    """The data sets that lie in a folder, in order of their names."""
    try:
        return sorted(path.name for path in data_dir.iterdir() if is_converted(data_dir, path.name))
    except OSError:
        return []


def convert_command(data_dir: Path, name: str) -> str:
    """The command that converts a data set, ready to be pasted; PATH is left to fill in for one of own images."""
    what = name if name in DATASETS else f"{FOLDER} PATH --name {name}"
    return f"mixmo-fast convert {what} --data {shlex.quote(str(data_dir))}"


def how_to_get(data_dir: Path, name: str) -> str:
    """What makes a data set that is not there: the command, behind what a person has to fetch for it."""
    info, command = DATASETS.get(name), convert_command(data_dir, name)
    if info is None or info.embedded or info.downloadable:
        return f"run `{command}`"
    return f"fetch {', '.join(served.url for served in info.served)}, then run `{command} --source FILE`"


def unknown_dataset(data_dir: Path, name: str) -> DataError:
    """The error for a name that is neither in the catalogue nor that of a converted folder."""
    here = [one for one in converted_names(data_dir) if one not in DATASETS]
    plain = name.lower().replace("-", "_")
    nearest = difflib.get_close_matches(plain, [*here, *DATASETS], n=1, cutoff=0.7) or difflib.get_close_matches(
        plain.replace("_", ""), DATASETS, n=1, cutoff=0.7
    )
    hint = f" (did you mean {nearest[0]}?)" if nearest else ""
    listed = ", ".join(here[:_MOST_LISTED]) + (", ..." if len(here) > _MOST_LISTED else "")
    command = convert_command(data_dir, name if is_name(name) else "NAME")
    return DataError(
        f"unknown data set {name!r}{hint}: the known ones are {', '.join(DATASETS)}, and in {data_dir} "
        f"{listed or 'no others'}; `{command}` makes one of your own images"
    )
