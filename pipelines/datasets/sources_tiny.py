"""Reads Tiny ImageNet: 64 x 64 JPEG files in an archive or a folder.

`train/<wnid>/images/*.JPEG` gives the training split, `val` the test split, either as published
(`val/images/*.JPEG` and the table `val/val_annotations.txt`) or rearranged (`val/<wnid>/*.JPEG`,
`val/<wnid>/images/*.JPEG` or, as mixmo-pytorch's script does, `val/images/<wnid>/*.JPEG`). A class is the rank of its
wnid among the sorted names of the folders in `train`; images are ordered by wnid, then by file name, so all
arrangements give the same arrays. Hidden files are no data. Legend: N images, H W pixels.
"""

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from mixmo_fast.errors import DataError
from pipelines.datasets.catalog import DatasetInfo
from pipelines.datasets.sources_files import (
    DAMAGED,
    Progress,
    check_md5,
    check_zip,
    damaged,
    is_hidden_path,
    unreadable_zip,
)

_SUFFIXES = (".jpeg", ".jpg")
_CHUNK = 512
_NAMED = 3  # of many damaged files


def read_tiny(
    info: DatasetInfo, where: Path, verify: bool, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Decodes all images; grey ones become colour.

    The archive is compared with the published checksum where `verify` is set; for a folder there is none.

    Returns:
        Training images (uint8, N x 64 x 64 x 3), training labels (int64, N), and the same for the test split.

    Raises:
        DataError: The archive is damaged or not the published one, an image is damaged or of another size, or
            a label is missing.
    """
    try:
        if where.is_file() and verify:
            with where.open("rb") as file:
                found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            check_md5(found, info.served[0].md5, where)
        with nullcontext() if where.is_dir() else zipfile.ZipFile(where) as archive:
            if archive is None:
                names = _folder_names(where)
                prefix, read = "", lambda name: (where / name).read_bytes()
            else:
                check_zip(archive, where)
                names = archive.namelist()
                prefix, read = _prefix(names), archive.read
            seen = sorted(name for name in names if not is_hidden_path(name.removeprefix(prefix)))
            return _read_tree(info, where, seen, prefix, read, progress)
    except NotImplementedError as error:  # the archive's directory asks for a later version of the format
        raise unreadable_zip(where, f"is packed in a way that Python cannot read ({error})") from error
    except DAMAGED as error:
        raise damaged(where, error) from error


def _folder_names(folder: Path) -> list[str]:
    found = (path for part in ("train", "val") for path in (folder / part).rglob("*") if path.is_file())
    return [path.relative_to(folder).as_posix() for path in found]


def _prefix(names: Iterable[str]) -> str:
    """What stands before `train/` in the archive's names."""
    for name in names:
        parts = name.split("/")
        if "train" in parts[:-1] and "__MACOSX" not in parts:
            return "".join(f"{part}/" for part in parts[: parts.index("train")])
    return ""


def _read_tree(
    info: DatasetInfo,
    where: Path,
    names: list[str],
    prefix: str,
    read: Callable[[str], bytes],
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    train = _images_by_class(names, f"{prefix}train/")
    wnids = sorted({wnid for wnid, _ in train})
    annotations = f"{prefix}val/val_annotations.txt"
    test = _images_by_class(names, f"{prefix}val/")
    if rearranged := _images_by_class(names, f"{prefix}val/images/"):
        test = rearranged
    elif test and all(wnid == "images" for wnid, _ in test):
        if annotations not in names:
            raise DataError(f"{where}: val/val_annotations.txt not found, so the images in val/images have no label")
        test = _annotated(where, read(annotations).decode("utf-8", "replace"), [name for _, name in test])
    unknown = sorted({wnid for wnid, _ in test} - set(wnids))
    if unknown:
        raise DataError(f"{where}: val has images of {unknown[0]}, a class that train does not have")
    if not train or not test:
        raise DataError(f"{where}: no images in {'val' if train else 'train'}/: it is cut short or not {info.title}")
    rank = {wnid: label for label, wnid in enumerate(wnids)}
    arrays = []
    for split, listing in (("training", sorted(train)), ("test", sorted(test))):
        paths = [name for _, name in listing]
        arrays.append(_decode_all(info, where, paths, read, progress, f"decoding {split} images"))
        arrays.append(np.array([rank[wnid] for wnid, _ in listing], dtype=np.int64))
    train_images, train_labels, test_images, test_labels = arrays
    return train_images, train_labels, test_images, test_labels


def _images_by_class(names: Iterable[str], part: str) -> list[tuple[str, str]]:
    """(wnid, name) of each image below `part`, whose first folder is the wnid."""
    images = (name for name in names if name.startswith(part) and name.lower().endswith(_SUFFIXES))
    return [(name[len(part) :].split("/")[0], name) for name in images if "/" in name[len(part) :]]


def _annotated(where: Path, table: str, names: list[str]) -> list[tuple[str, str]]:
    """(wnid, name) of each image by the table, whose lines are: file name, tab, wnid, tab, box."""
    wnid_of = dict(line.split("\t")[:2] for line in table.splitlines() if line.count("\t") >= 1)
    missing = next((name for name in names if name.rsplit("/", 1)[-1] not in wnid_of), None)
    if missing is not None:
        raise DataError(f"{where}: val/val_annotations.txt does not mention {missing.rsplit('/', 1)[-1]}")
    return [(wnid_of[name.rsplit("/", 1)[-1]], name) for name in names]


def _decode_all(
    info: DatasetInfo,
    where: Path,
    names: list[str],
    read: Callable[[str], bytes],
    progress: Progress | None,
    description: str,
) -> np.ndarray:
    images = np.empty((len(names), info.height, info.width, info.channels), dtype=np.uint8)
    unreadable: list[tuple[int, Exception]] = []

    def decode(index: int) -> None:
        try:
            with Image.open(io.BytesIO(read(names[index])), formats=["JPEG"]) as image:
                if image.size != (info.width, info.height):
                    found = f"{image.width} x {image.height}"
                    raise DataError(f"{where}: {names[index]} is {found} pixels, not {info.width} x {info.height}")
                images[index] = np.asarray(image.convert("RGB"))
        except (UnidentifiedImageError, SyntaxError, Image.DecompressionBombError, *DAMAGED) as error:
            unreadable.append((index, error))

    # Threads, because decoding releases the interpreter's lock; chunks, so that an error or Ctrl-C is not held up.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(names), _CHUNK):
            done = min(first + _CHUNK, len(names))
            list(pool.map(decode, range(first, done)))
            if progress is not None:
                progress(description, done, len(names))
    if len(unreadable) == 1:
        ((index, error),) = unreadable
        raise damaged(where / names[index], error) from error
    if unreadable:
        named = ", ".join(names[index] for index, _ in sorted(unreadable, key=lambda one: one[0])[:_NAMED])
        more = ", ..." if len(unreadable) > _NAMED else ""
        raise DataError(
            f"{where}: {len(unreadable):,} files are cut short or damaged ({named}{more}): fetch them again"
        )
    return images
