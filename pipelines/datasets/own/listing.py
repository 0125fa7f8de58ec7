"""What the readers of a user's own images give, before a pixel is read: labels, and where each image's bytes are.

One file a form does the reading: `folders.py`, `tables.py`, `parquet.py`, `tars.py`; `source.py` chooses among them.
Legend: N images, K classes.
"""

import os
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mixmo_fast.errors import DataError, printable
from pipelines.datasets.manifest import MOST_CLASSES, most_frequent

TRAIN = ("train", "training")
TEST = ("val", "valid", "validation", "test")
"""What splits are called; of the second ones, that which is named first here becomes the test split."""

_LONGEST_CLASS_NAME = 200
_LONGEST_SHOWN = 500  # characters; of longer names the beginning and the end


class Original(NamedTuple):
    """Where an image's bytes are: in a file, or at hand.

    Attributes:
        name: For messages.
        path: Of the file that holds them; empty where they are at hand.
        offset: Of the first of them in the file.
        size: How many; -1: up to the file's end.
        content: The bytes themselves, where they are at hand.
    """

    name: str
    path: str = ""
    offset: int = 0
    size: int = -1
    content: bytes | None = None


@dataclass(frozen=True)
class Part:
    """The images of one split, or of all.

    Attributes:
        labels: N names of classes, or N numbers from 0.
        originals: Given increasing positions int64 (n,), the originals there, in order; may be asked again.
    """

    labels: Sequence[str] | Sequence[int]
    originals: Callable[[np.ndarray], Iterator[Original]]


@dataclass(frozen=True)
class Found:
    """What a reader found.

    Attributes:
        kind: `folders`, `table`, `parquet` or `tar`.
        parts: By the word that names the split, as it stands there; "" where nothing does.
        class_names: K names of numbered classes, where they are told.
        notes: What was left alone, a line each.
    """

    kind: str
    parts: dict[str, Part]
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def shown(name: str | os.PathLike[str]) -> str:
    """A name as a message can have it: a line that is not long, and printable whatever bytes it is made of."""
    text = os.fspath(name).encode("utf-8", "backslashreplace").decode()
    line = printable(text)
    return line if len(line) <= _LONGEST_SHOWN else f"{line[:200]}...{line[203 - _LONGEST_SHOWN :]}"


def number_classes(
    where: Path, labels: Sequence[Sequence[str] | Sequence[int]], told: tuple[str, ...] | None
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Gives classes their numbers: names in sorted order (of code points), numbers as they are.

    Args:
        where: For messages.
        labels: Of the training images, then of others.
        told: Names of numbered classes, where they are told.

    Returns:
        K names, and the labels of each, int64 (N,).

    Raises:
        DataError: Fewer than two classes, names that cannot be names, or numbers that are not 0 to K-1.
    """
    kinds: set[type] = {type(label) for some in labels for label in some}
    if kinds - {str, int} or len(kinds) > 1:
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise DataError(f"{where}: labels of several kinds ({found}), allowed: all names, or all whole numbers")
    if kinds == {int}:
        names = _names_of_numbers(where, labels, told)
        numbered = [np.array(some, dtype=np.int64) for some in labels]
    else:
        names = tuple(sorted({str(label) for label in labels[0]}))
        number: dict[object, int] = {name: label for label, name in enumerate(names)}
        for some in labels[1:]:
            _refuse_other_classes(where, number.keys(), {str(label) for label in some})
        numbered = [np.fromiter((number[label] for label in some), np.int64, len(some)) for some in labels]
    for name in names:
        _check_class_name(where, name)
    if len(set(names)) != len(names):
        raise DataError(f"{where}: several classes are called {shown(most_frequent(names))}, allowed: one of each name")
    if len(names) < 2:
        one = f"one class, {shown(names[0])}" if names else "no class"
        raise DataError(f"{where}: found {one}, allowed: two classes or more")
    if len(names) > MOST_CLASSES:
        raise DataError(f"{where}: found {len(names):,} classes, allowed: up to {MOST_CLASSES:,}")
    return names, numbered


def refuse_missing_classes(where: Path, split: str, names: Sequence[str], labels: np.ndarray) -> None:
    """Refuses a split that has no image of a class.

    Args:
        where: For messages.
        split: `training` or `test`.
        names: K of them.
        labels: Of the split's images: int64 (N,).

    Raises:
        DataError: With the first such class.
    """
    missing = np.flatnonzero(np.bincount(labels, minlength=len(names)) == 0)
    if len(missing):
        others = f" and of {len(missing) - 1:,} others" if len(missing) > 1 else ""
        raise DataError(
            f"{where}: no {split} image of class {shown(names[missing[0]])}{others}, allowed: at least 1 of each"
        )


def _names_of_numbers(
    where: Path, labels: Sequence[Sequence[str] | Sequence[int]], told: tuple[str, ...] | None
) -> tuple[str, ...]:
    present = sorted({int(label) for some in labels for label in some})
    least, greatest = present[0], present[-1]
    count = len(told) if told else greatest + 1
    if least < 0 or greatest >= count or (told is None and len(present) != count):
        hint = "; labels that count from 1 need 1 taken off" if least == 1 and not told else ""
        gap = "" if told else ", none left out"
        raise DataError(
            f"{where}: labels from {least} to {greatest}, {len(present):,} different ones, allowed: whole numbers from "
            f"0 to {count - 1 if told else 'K-1'}{gap}, or names{hint}"
        )
    return told or tuple(map(str, range(count)))


def _refuse_other_classes(where: Path, known: Set[object], found: set[str]) -> None:
    unknown = sorted(found - known)
    if unknown:
        none = "" if found & known else "; they have no class in common"
        raise DataError(
            f"{where}: the test images have class {shown(unknown[0])}, which the training images do not have{none}"
        )


def _check_class_name(where: Path, name: str) -> None:
    problem = None
    if not name.strip():
        problem = "an empty name"
    elif len(name) > _LONGEST_CLASS_NAME:
        problem = f"{len(name):,} characters, allowed: up to {_LONGEST_CLASS_NAME}"
    elif not name.isprintable():  # line breaks, control characters, and what stands for bytes that are not UTF-8
        bad = any("\ud800" <= one <= "\udfff" for one in name)
        problem = "bytes that are not UTF-8" if bad else "characters that cannot be printed"
    if problem:
        raise DataError(f"{where}: class {shown(name)!r}: found {problem}: rename it")
