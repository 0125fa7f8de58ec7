"""Gives a data set's folder its name all at once, and never at the cost of what was there before.

Everything is written into a hidden folder beside the target, flushed to the disk, and renamed last. So a folder with
the data set's name is always whole, whatever interrupts the work; and nothing that conversion did not write itself is
ever deleted.
"""

import contextlib
import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path

from mixmo_fast.errors import DataError
from mixmo_fast.files import abandoned, flush_folder, reason, swap, temporary_name
from pipelines.datasets.store import FILE_NAMES, MANIFEST, Dataset, open_dataset, read_manifest

_OURS = frozenset((*FILE_NAMES, MANIFEST))


def make_whole(
    data_dir: Path, name: str, fill: Callable[[Path], None], needed: Callable[[], int], force: bool, keep: bool = True
) -> tuple[Dataset, bool]:
    """Fills the folder `data_dir/name` of a data set, or leaves everything as it was.

    Args:
        data_dir: The data folder; made if need be.
        name: Of the data set.
        fill: Writes all files, the manifest last, into the empty folder that it is given.
        needed: Bytes that they take, asked for where the disk is full.
        force: Whether a folder that is there is replaced, once the new one is complete.
        keep: Whether, without `force`, a whole folder that is there is what is wanted; else it is an error.

    Returns:
        The data set, and whether it was there already.

    Raises:
        DataError: The folder cannot be used or the disk is full. Nothing is left behind.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        # Where the name is a link to another disk, the work is done over there: a rename cannot cross disks.
        target = Path(os.path.realpath(data_dir / name))  # still a link where links go in a circle
        _clean_up_after_the_dead(target)
        if os.path.lexists(target):
            _refuse_foreign_files(target)
            if not force and any(target.iterdir()):
                if not keep:
                    raise there_already(data_dir / name)
                return open_dataset(data_dir, name, check="sha256"), True
        temporary = temporary_name(target)
        temporary.mkdir()
        try:
            # Made before the originals are read, so that an unwritable folder is found at once.
            fill(temporary)
            # Read before the move: afterwards another conversion may be swapping the folder at this very moment.
            written = dataclasses.replace(read_manifest(temporary / MANIFEST, data_dir, name), folder=data_dir / name)
            already = not _move_into_place(temporary, target, force)
        finally:
            _remove_ours(temporary)
    except OSError as error:
        raise _disk_error(error, name, needed, data_dir) from error
    if already and not keep:
        raise there_already(data_dir / name)
    return (open_dataset(data_dir, name) if already else written), already


def there_already(folder: Path) -> DataError:
    """The error for a data set that is not to be replaced."""
    return DataError(f"{folder} is converted already: --force replaces it, another --name leaves it as it is")


def _move_into_place(temporary: Path, target: Path, force: bool) -> bool:
    """Gives the finished folder its name; False if another conversion was faster and its result stays."""
    try:
        temporary.rename(target)  # succeeds where there is nothing, or an empty folder
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not force:
            return False
        if not swap(temporary, target):
            old = temporary_name(target, "old")
            target.rename(old)
            try:
                temporary.rename(target)
            except BaseException:
                old.rename(target)
                raise
            _remove_ours(old)
    flush_folder(target.parent)
    return True


def _clean_up_after_the_dead(target: Path) -> None:
    """Removes what killed conversions left, and puts back an old folder that was moved away and never replaced."""
    for kind in ("old", "tmp"):
        for left in abandoned(target, kind):
            if kind == "old" and not target.exists():
                left.rename(target)
            else:
                _remove_ours(left)


def _refuse_foreign_files(target: Path) -> None:
    """Raises DataError if `target` is not a folder, or holds anything that conversion does not write."""
    if not target.is_dir():
        raise DataError(f"{target} is a file, a folder is needed there: move it away or choose another --data")
    foreign = sorted(path.name for path in target.iterdir() if path.name not in _OURS or not path.is_file())
    if foreign:
        raise DataError(
            f"{target} holds {foreign[0]}, which conversion did not write: move the folder away "
            "(--source may name it) or choose another --data"
        )


def _remove_ours(folder: Path) -> None:
    """Removes the files that conversion writes, then the folder unless something else is in it."""
    for name in _OURS:
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def _disk_error(error: OSError, name: str, needed: Callable[[], int], data_dir: Path) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(
            f"{data_dir}: no space left for {name}: free about {needed() / 1e6:,.0f} MB or choose another --data"
        )
    place = error.filename or data_dir
    if isinstance(error, FileExistsError | NotADirectoryError):
        return DataError(f"{place}: a file stands where a folder is needed: choose another --data")
    if error.errno == errno.EFBIG:
        return DataError(f"{place}: cannot write {name}: {reason(error)}")
    return DataError(f"{place}: {error.strerror or error}: make it readable and writable, or choose another --data")
