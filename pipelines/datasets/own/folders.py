"""Own images as class folders: `CLASS/...`, or `train/CLASS/...` beside `val/CLASS/...`.

Below a class's folder images may lie at any depth. Links are followed; a folder that lies inside itself by a link is
entered once. Legend: N images.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mixmo_fast.errors import DataError
from pipelines.datasets.decoding import image_suffixes
from pipelines.datasets.names import is_hidden
from pipelines.datasets.own.listing import TEST, TRAIN, Found, Original, Part, shown


@dataclass
class _LeftAlone:
    """Files that are no images by their names."""

    count: int = 0
    first: str = ""
    suffixes: frozenset[str] = field(default_factory=image_suffixes)

    def add(self, path: str) -> None:
        self.count, self.first = self.count + 1, self.first or path

    def notes(self) -> tuple[str, ...]:
        if not self.count:
            return ()
        files = "file is no image by its name" if self.count == 1 else "files are no images by their names"
        return (f"note: {self.count:,} {files} and left alone: {shown(self.first)}",)


def read_folders(folder: Path) -> Found:
    """Lists the images of class folders.

    A folder `train` that has folders makes the first layout, where its neighbours named as splits are splits, too; in
    the second one every folder is a class. Files are in the order of their classes' and then their own names.

    Raises:
        DataError: There are no class folders, or no images, or a folder cannot be read.
    """
    left = _LeftAlone()
    inside = {entry.name: entry for entry in _entries(str(folder)) if _is_folder(entry)}
    splits = [word for word in (*TRAIN, *TEST) if word in inside]
    has_splits = any(word in TRAIN and _has_folders(inside[word].path) for word in splits)
    if not has_splits and splits and set(inside) <= {*TRAIN, *TEST}:
        raise DataError(f"{folder}: found {', '.join(splits)}, allowed: train and val with a folder for each class")
    places = {word: folder / word for word in splits} if has_splits else {"": folder}
    parts = {word: _read_classes(place, left) for word, place in places.items()}
    if not any(len(part.labels) for part in parts.values()):
        raise DataError(
            f"{folder}: no images in class folders, allowed: CLASS/IMAGE or train/CLASS/IMAGE, and files of the kinds "
            f"that Pillow reads{_only_others(left)}"
        )
    return Found("folders", parts, notes=left.notes())


def _only_others(left: _LeftAlone) -> str:
    return f" (found {left.count:,} other files, the first {shown(left.first)})" if left.count else ""


def _has_folders(folder: str) -> bool:
    return any(map(_is_folder, _entries(folder)))


def _read_classes(folder: Path, left: _LeftAlone) -> Part:
    labels: list[str] = []
    paths: list[str] = []
    for entry in _entries(str(folder)):
        if not _is_folder(entry):
            left.add(entry.path)
            continue
        before = len(paths)
        paths += _images(entry.path, left, (_identity(str(folder)),))
        labels += [entry.name] * (len(paths) - before)

    def originals(wanted: np.ndarray) -> Iterator[Original]:
        return (Original(paths[index], paths[index]) for index in wanted)

    return Part(labels, originals)


def _images(folder: str, left: _LeftAlone, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    identity = _identity(folder)
    if identity in above:  # a link that leads back up
        return
    for entry in _entries(folder):
        if _is_folder(entry):
            yield from _images(entry.path, left, (*above, identity))
        elif (name := entry.name)[name.rfind(".") :].lower() not in left.suffixes:  # a million times
            left.add(entry.path)
        elif _may_be_image(entry):
            yield entry.path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where one may not look
        return False


def _may_be_image(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link that leads to none: an image that cannot be read."""
    try:
        return entry.is_file() or not os.path.exists(entry.path)  # noqa: PTH110
    except OSError:
        return True


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{shown(folder)}: cannot be listed ({error.strerror})") from error


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)  # noqa: PTH116
    return status.st_dev, status.st_ino
