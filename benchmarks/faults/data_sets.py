"""Converted data sets, damaged: refused in a line, or read as what was written, byte for byte.

Some folders are of the catalogue's digits, some of a user's own images, whose manifests nothing else knows.
"""

import dataclasses
import json
import os
import random
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.faults.campaign import Campaign, Fault, check_line, outcome
from benchmarks.faults.damage import OTHER_KINDS, damaged
from mixmo_fast.doctor.examine import describe_dataset
from mixmo_fast.errors import MixmoError
from pipelines.datasets.beton_check import check_beton
from pipelines.datasets.convert import convert
from pipelines.datasets.names import MANIFEST, converted_names
from pipelines.datasets.own.convert import convert_folder
from pipelines.datasets.store import FILE_NAMES, SPLITS, Dataset, open_dataset

_DIGITS, _OWN = "digits", "pets"
_SIDE = 8  # pixels of the own images

_ABSURD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 2**31, 2**63, 2**70, 0.5, -0.0, 5e-324, 1e308, float("nan"), float("inf")),
    *("", "x", "digits", "\x1b[31mred", "one\ntwo", "\0", "\ud800", "\u202eabc", "x" * 10_000, "../../etc/passwd"),
    *([], [0], ["x"], [0.5, 0.5, 0.5], [[[[[]]]]], {}, {"name": "x"}, [None] * 3, list(range(1000))),
)
_TEXTS = (
    *(b"", b"null", b"[]", b"{}", b'"x"', b"1e999", b"NaN", b"\xff\xfe", b"{", b'{"format": 1}', b"\0" * 64),
    *(b"[" * 100_000, b'{"a":' * 100_000, b'{"format": ' + b"9" * 10_000 + b"}", b'{"format": NaN}'),
)
_DTYPES = ("|u1", "<i8", ">i8", "<f4", "|O", "|V1", "<U9", "|b1", "<M8[ns]")


class DamagedDataSets(Campaign):
    """A converted data set is what was written, or is refused in a line; looking at it changes nothing."""

    name = "data_sets"
    title = "converted data sets with damage in each of their files, and other things in these files' places"
    inputs = 4_000

    def prepare(self, small: Path) -> None:
        """Reads the digits, and converts a few images of one's own."""
        self.small = small / "data"
        with tempfile.TemporaryDirectory() as temporary:
            place = Path(temporary)
            _draw_images(place / "images")
            convert_folder(place / "images", _OWN, place, size=_SIDE, workers=1, notify=lambda _: None)
            self.own = {name: (place / _OWN / name).read_bytes() for name in (*FILE_NAMES, MANIFEST)}
            self.whole = {
                name: _read_all(open_dataset(data_dir, name, "sha256"))
                for data_dir, name in ((self.small, _DIGITS), (place, _OWN))
            }

    def attempt(self, draw: random.Random, number: int, folder: Path) -> str:
        """Damages one file of a copy, and reads all of it in every way."""
        data_dir, name = folder / "data", draw.choice((_DIGITS, _OWN))
        self._copy(data_dir / name, name)
        file = draw.choice((MANIFEST, MANIFEST, *FILE_NAMES))
        what = _damage(draw, data_dir / name, file)
        before = _state(data_dir)
        try:
            said = self._read(data_dir, name)
        except Fault as fault:
            raise Fault(fault.kind, f"{file} of {name}, {what}: {fault.shown}") from fault
        if _state(data_dir) != before:
            raise Fault("looking at a data set changes it", f"{file} of {name}, {what}")
        return said

    def _copy(self, folder: Path, name: str) -> None:
        """A copy that is made quickly: links, which are broken before a file is changed."""
        folder.mkdir(parents=True)
        for file in (*FILE_NAMES, MANIFEST):
            if name == _DIGITS:
                os.link(self.small / name / file, folder / file)
            else:
                (folder / file).write_bytes(self.own[file])

    def _read(self, data_dir: Path, name: str) -> str:
        """Demands of every way of reading that it refuses, or gives what was written."""
        written, arrays = self.whole[name]
        converted_names(data_dir)
        checked = outcome(lambda: open_dataset(data_dir, name, "sha256"))
        is_whole = not isinstance(checked, MixmoError)
        if is_whole:
            _demand_same_files(data_dir / name, self.small / name if name == _DIGITS else self.own)
        for verify in (False, True):
            finding = describe_dataset(name, data_dir, verify)
            for line in (finding.detail, finding.remedy or "-"):
                check_line(line)
            if verify and (finding.state == "ok") != is_whole:
                raise Fault("doctor does not say what opening says", repr(finding))
        if name == _DIGITS:
            again = outcome(lambda: convert(name, data_dir, notify=lambda _: None))
            if isinstance(again, MixmoError) == is_whole:
                raise Fault("converting again does not say what opening says", repr(again))
        dataset = outcome(lambda: open_dataset(data_dir, name))
        if isinstance(dataset, MixmoError):
            if is_whole:
                raise Fault("sizes are wrong where checksums are right", str(dataset))
            return "refused"
        if repr(dataclasses.replace(dataset, folder=Path())) != repr(written):
            raise Fault("another manifest is accepted", _difference(dataset, written))
        refused = [self._read_split(dataset, split, arrays, is_whole) for split in SPLITS]
        return "accepted" if is_whole else "refused when read" if any(refused) else "found by its checksum"

    def _read_split(self, dataset: Dataset, split, arrays: dict[str, np.ndarray], is_whole: bool) -> bool:
        """Whether something of a split was refused."""
        readers: dict[str, Callable[[], np.ndarray]] = {
            f"{split} images": lambda: dataset.load_images(split),
            f"{split} images, mapped": lambda: dataset.load_images(split, mmap=True),
            f"{split} labels": lambda: dataset.load_labels(split),
        }
        refused = False
        for what, reader in readers.items():
            array = outcome(reader)
            if isinstance(array, MixmoError):
                refused = True
                continue
            expected = arrays[what.removesuffix(", mapped")]
            if (array.dtype, array.shape) != (expected.dtype, expected.shape):
                raise Fault("an array of another type or shape is read", f"{what}: {array.dtype} {array.shape}")
            if (is_whole or not what.endswith("mapped")) and not np.array_equal(array, expected):
                raise Fault("other numbers are read", what)
        fit = outcome(lambda: check_beton(dataset, split))
        if fit is None and dataset.beton_path(split).read_bytes() != self._beton(dataset.name, split):
            raise Fault("a changed .beton file is accepted", split)
        if is_whole and (refused or fit is not None):
            raise Fault("refused where checksums are right", split)
        return refused or fit is not None

    def _beton(self, name: str, split: str) -> bytes:
        file = f"{split}.beton"
        return (self.small / name / file).read_bytes() if name == _DIGITS else self.own[file]


def _draw_images(folder: Path) -> None:
    random_pixels = np.random.default_rng(0)
    for number in range(12):
        place = folder / ("bee", "cat", "dog")[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        pixels = random_pixels.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")


def _read_all(dataset: Dataset) -> tuple[Dataset, dict[str, np.ndarray]]:
    arrays = {f"{split} images": dataset.load_images(split) for split in SPLITS}
    arrays |= {f"{split} labels": dataset.load_labels(split) for split in SPLITS}
    return dataclasses.replace(dataset, folder=Path()), arrays


def _state(data_dir: Path) -> dict[str, tuple[int, ...]]:
    """What looking must not change: everything there is, its kind, size and time of change."""
    found = {}
    for path in sorted(data_dir.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_mode, status.st_size, status.st_ino, status.st_mtime_ns)
    return found


def _demand_same_files(folder: Path, originals: Path | dict[str, bytes]) -> None:
    for name in FILE_NAMES:
        original = originals[name] if isinstance(originals, dict) else (originals / name).read_bytes()
        if (folder / name).read_bytes() != original:
            raise Fault("a changed file passes the sha256 check", name)


def _difference(dataset: Dataset, written: Dataset) -> str:
    ours, theirs = vars(dataset), vars(written)
    keys = [key for key in theirs if key != "folder" and repr(ours[key]) != repr(theirs[key])]
    return "; ".join(f"{key} is {ours[key]!r:.80}, not {theirs[key]!r:.80}" for key in keys)


def _damage(draw: random.Random, folder: Path, file: str) -> str:
    """Does one sort of damage to a file, and says which."""
    path = folder / file
    content = path.read_bytes()
    path.unlink()  # the others that are linked to it keep theirs
    sort = draw.random()
    if sort < 0.1:
        kind = draw.choice(sorted(OTHER_KINDS))
        OTHER_KINDS[kind](path)
        return kind
    if sort < 0.15:
        other = draw.choice([name for name in (*FILE_NAMES, MANIFEST) if name != file])
        (folder / other).rename(path)
        if draw.random() < 0.5:
            (folder / other).write_bytes(content)
        return f"swapped with {other}"
    if file == MANIFEST and sort < 0.8:
        what, changed = _changed_manifest(draw, content)
    elif file.endswith(".npy") and sort < 0.5:
        what, changed = _changed_header(draw, content)
    elif file.endswith(".beton") and sort < 0.5:
        what, changed = _changed_number(draw, content)
    else:
        what, changed = "bytes", damaged(draw, content)
    path.write_bytes(changed)
    return what


def _changed_manifest(draw: random.Random, content: bytes) -> tuple[str, bytes]:
    """Another manifest, most of them valid JSON."""
    if draw.random() < 0.1:
        text = draw.choice(_TEXTS)
        return f"{text[:20]!r}", text
    manifest = json.loads(content)
    holder, key = manifest, draw.choice(sorted(manifest))
    path = [str(key)]
    while isinstance(holder[key], list | dict) and holder[key] and draw.random() < 0.7:
        holder = holder[key]
        key = draw.choice(sorted(holder)) if isinstance(holder, dict) else draw.randrange(len(holder))
        path.append(str(key))
    what = ".".join(path)
    match draw.randrange(6):
        case 0 if isinstance(holder, dict):
            del holder[key]
            return f"without {what}", json.dumps(manifest).encode()
        case 1 if isinstance(holder, dict):
            again = json.dumps({key: draw.choice(_ABSURD)})[1:-1]
            text = json.dumps(holder)
            twice = draw.choice((f"{{{again}, {text[1:]}", f"{text[:-1]}, {again}}}"))
            return f"{what} twice", json.dumps(manifest).replace(text, twice).encode()
        case 2 if isinstance(holder[key], int | float):
            holder[key] = draw.choice((holder[key] + 1, holder[key] - 1, -holder[key], holder[key] * 1.0000001))
        case 3 if isinstance(holder, dict):
            holder[draw.choice(("x", "", "\x1b[2J", "folder", "k" * 5000))] = draw.choice(_ABSURD)
        case _:
            holder[key] = draw.choice(_ABSURD)
    return f"{what} changed", json.dumps(manifest).encode()


def _changed_header(draw: random.Random, content: bytes) -> tuple[str, bytes]:
    """A NumPy file that says of itself what is not so, or that is another of NumPy's and Python's formats."""
    shape = [draw.choice((0, 1, -1, 359, 1438, 2**31, 2**62, 2**70)) for _ in range(draw.randint(0, 5))]
    header = repr({"descr": draw.choice(_DTYPES), "fortran_order": draw.random() < 0.3, "shape": tuple(shape)})
    header = draw.choice((header, header + "#" * 20_000, "{" * 500, "__import__('os').abort()", header[:-3]))
    encoded = header.encode() + b"\n"
    version = draw.choice((1, 2, 3, 9))
    size = struct.pack("<H" if version == 1 else "<I", min(len(encoded), 65_535))
    start = draw.choice((b"\x93NUMPY" + bytes((version, 0)) + size, b"\x80\x04", b"PK\x03\x04"))
    rest = content[128:] + bytes(1 << 16)
    same_size = (start + encoded + rest)[: len(content)]
    return f"header {version} {header[:80]}", draw.choice((same_size, start + encoded + content[128:]))


def _changed_number(draw: random.Random, content: bytes) -> tuple[str, bytes]:
    """A .beton file in which one or more of the numbers that FFCV goes by are others."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        near = draw.randrange(0, 4096, 2)
        at = draw.choice((near, max(0, len(changed) - 8 - near)))
        value = draw.choice((0, 1, 2**15, 2**31, 2**32, 2**63, 2**64 - 1, draw.getrandbits(64)))
        size = draw.choice((2, 4, 8))
        changed[at : at + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
    return "numbers", bytes(changed)
