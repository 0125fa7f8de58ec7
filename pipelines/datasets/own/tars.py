"""Own images as WebDataset's tar files: `KEY.jpg` (or another image) beside `KEY.cls`, the label as text.

A key is a member's name up to the first dot of its last part; the files of a key lie one after the other. Archives are
read in place: only their headers and labels here, images by their offset when they are decoded. Labels that are all
whole numbers are the classes' numbers, others their names. Legend: N images.
"""

import os
import tarfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from mixmo_fast.errors import DataError
from pipelines.datasets.decoding import image_suffixes
from pipelines.datasets.names import is_hidden
from pipelines.datasets.own.listing import Found, Original, Part, shown
from pipelines.datasets.own.splitting import split_of_file

_LONGEST_LABEL = 1000  # bytes
_LABEL = ".cls"


class _Shard:
    """The images of one archive."""

    def __init__(self, path: Path):
        self.path = path
        self.names: list[str] = []
        self.offsets, self.sizes = array("q"), array("q")
        self.labels: list[str] = []


def read_tars(tars: Sequence[Path]) -> Found:
    """Lists the images of archives, in their order; a name that begins with a split's word says which split it is.

    Raises:
        DataError: An archive cannot be read, an image has no label or two, or a key is there twice.
    """
    suffixes = image_suffixes()
    shards: dict[str, list[_Shard]] = {}
    for path in tars:
        shards.setdefault(split_of_file(path), []).append(_read_shard(path, suffixes))
    numbered = all(_is_number(label) for some in shards.values() for shard in some for label in set(shard.labels))
    return Found("tar", {word: _part(some, numbered) for word, some in shards.items()})


def _is_number(label: str) -> bool:
    return label.isascii() and label.removeprefix("-").isdigit()


def _part(shards: list[_Shard], numbered: bool) -> Part:
    labels = [label for shard in shards for label in shard.labels]
    starts = np.cumsum([0, *(len(shard.labels) for shard in shards)])

    def originals(wanted: np.ndarray) -> Iterator[Original]:
        for index, which in zip(wanted, np.searchsorted(starts, wanted, side="right") - 1, strict=True):
            shard, inside = shards[which], index - starts[which]
            name = f"{shard.path}: {shard.names[inside]}"
            yield Original(name, str(shard.path), shard.offsets[inside], shard.sizes[inside])

    return Part([int(label) for label in labels] if numbered else labels, originals)


def _read_shard(path: Path, suffixes: frozenset[str]) -> _Shard:
    shard = _Shard(path)
    keys: set[str] = set()
    key, image, label = "", None, None

    def finish() -> None:
        if image is None and label is None:
            return
        if image is None or label is None:
            lacks = "image" if image is None else _LABEL
            raise DataError(
                f"{path}: {shown(key)} has no {lacks} beside it, allowed: an image and {_LABEL} for each key, one "
                "after the other (tar --sort=name)"
            )
        if key in keys:
            raise DataError(f"{path}: {shown(key)} is there twice, allowed: each key once")
        keys.add(key)
        shard.names.append(image.name)
        shard.offsets.append(image.offset_data)
        shard.sizes.append(image.size)
        shard.labels.append(label)

    try:
        with tarfile.open(path, "r:") as tar, path.open("rb") as file:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                name = PurePosixPath(member.name)
                if not member.isreg() or member.sparse is not None or any(map(is_hidden, name.parts)):
                    continue
                stem, dot, suffix = name.name.partition(".")
                new = str(name.with_name(stem))
                if new != key:
                    finish()
                    key, image, label = new, None, None
                if dot + suffix.lower() == _LABEL:
                    label = _read_label(path, file, member)
                elif os.path.splitext(name.name)[1].lower() in suffixes:  # noqa: PTH122
                    if image is not None:
                        raise DataError(f"{path}: {shown(key)} has two images, allowed: one for each key")
                    image = member
            finish()
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:  # also numbers in a header
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not a whole, uncompressed tar archive ({reason})") from error
    return shard


def _read_label(path: Path, file: BinaryIO, member: tarfile.TarInfo) -> str:
    file.seek(member.offset_data)
    try:
        if member.size > _LONGEST_LABEL:
            raise ValueError
        return file.read(member.size).decode().strip()
    except ValueError as error:
        raise DataError(f"{path}: {shown(member.name)}: not a label, allowed: a number or a name as text") from error
