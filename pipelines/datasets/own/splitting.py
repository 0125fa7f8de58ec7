"""Which images train and which test: by the words that name them, or drawn from each class.

Legend: N images, K classes.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import numpy as np

from mixmo_fast.errors import DataError
from pipelines.datasets.own.listing import TEST, TRAIN

_T = TypeVar("_T")


def split_of_file(path: Path) -> str:
    """The word of a split that a file's name begins with, as in `train-00000-of-00002.parquet`; "" where none does."""
    found = re.match(rf"({'|'.join(sorted((*TRAIN, *TEST), key=len, reverse=True))})(?![a-z])", path.name.lower())
    return found[1] if found else ""


def choose_splits(where: Path, parts: dict[str, _T]) -> tuple[_T, _T | None, tuple[str, ...]]:
    """The training and the test images among parts that are named as splits, or are not.

    Args:
        where: For messages.
        parts: By the word that names the split; "" where nothing does.

    Returns:
        The training images; the test images, None where there is but one part; and notes.

    Raises:
        DataError: Some are named as splits and others are not, or none are for training.
    """
    words = [word for word in (*TRAIN, *TEST) if word in parts]
    if "" in parts:
        if words:
            raise DataError(f"{where}: some images are in a split ({', '.join(words)}) and others in none")
        return parts[""], None, ()
    train = [word for word in words if word in TRAIN]
    test = [word for word in words if word in TEST]
    if len(train) != 1:
        raise DataError(
            f"{where}: splits: found {', '.join(words)}, allowed: one of {' and '.join(TRAIN)}, and one for testing"
        )
    notes = tuple(f"note: {word} is left alone, {test[0]} is what is tested on" for word in test[1:])
    return parts[train[0]], parts[test[0]] if test else None, notes


def only_part(where: Path, parts: dict[str, _T]) -> _T:
    """The images of a source that is one split by itself.

    Raises:
        DataError: It has several.
    """
    if len(parts) > 1:
        raise DataError(f"--val {where}: found splits ({', '.join(parts)}), allowed: images of one")
    return next(iter(parts.values()))


def split_stratified(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws test images from each class.

    Of a class of n images the test split gets the whole number nearest to n * fraction, but at least one, and at most
    n - 1; the only image of a class trains.

    Args:
        labels: int64 (N,), from 0.
        fraction: Of each class, above 0 and below 1.
        seed: Of what is drawn.

    Returns:
        Positions of the training images and of the test images, both increasing int64.
    """
    random = np.random.default_rng(seed)
    is_test = np.zeros(len(labels), dtype=bool)
    for of_class in _by_class(labels):
        count = len(of_class)
        taken = min(max(round(count * fraction), 1), count - 1)
        is_test[random.permutation(of_class)[:taken]] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def _by_class(labels: np.ndarray) -> Iterable[np.ndarray]:
    """Positions of the images of each class, in order."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
