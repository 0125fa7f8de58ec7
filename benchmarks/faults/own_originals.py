"""A few own images in each form that `convert folder` reads, some of them made to do harm.

What is written lies in a folder `source`; `outside`, beside it, is what hostile ones aim at.
"""

import csv
import io
import json
import os
import random
import struct
import tarfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.faults.damage import damaged
from benchmarks.faults.originals import hostile_names

_CLASSES = ("bee", "cat")
_IMAGES = 8
_MODES = {
    ".png": ("RGB", "L", "RGBA", "P", "I;16", "1", "LA"),
    ".jpg": ("RGB", "L", "CMYK"),
    ".gif": ("P",),
    ".bmp": ("RGB", "L"),
    ".webp": ("RGB", "RGBA"),
    ".tif": ("RGB", "F", "I", "CMYK", "I;16"),
    ".ppm": ("RGB",),
    ".ico": ("RGBA",),
}


def write_folders(draw: random.Random, source: Path, outside: Path) -> Path:
    """Class folders."""
    for name, label in _names(draw):
        _write(source / label / name, image(draw, Path(name).suffix))
    if draw.random() < 0.3:
        name = draw.choice(
            ("\x1b[31m", "one\ntwo", b"\xff\xfe".decode(errors="surrogateescape"), "x" * 250, " ", "\u202e")
        )
        with suppress(OSError):
            _write(
                source / draw.choice((name, f"{name}/deeper")) / draw.choice(("0.png", f"{name[:200]}.png")),
                image(draw, ".png"),
            )
    if draw.random() < 0.3:
        target = draw.choice((outside, source, Path("/dev"), Path("/proc/self"), outside / "secret", Path("nowhere")))
        (source / draw.choice(("link", "bee/link", "bee/link.png"))).symlink_to(target)
    return source


def write_table(draw: random.Random, source: Path, outside: Path) -> Path:
    """A CSV or JSON lines file beside its images."""
    rows: list[list[Any]] = []
    for name, label in _names(draw):
        _write(source / name, image(draw, Path(name).suffix))
        rows.append([name, label])
    absurd = (
        *hostile_names(outside),
        str(outside / "secret"),
        "/dev/zero",
        "/dev/stdin",
        "x" * 200_000,
        "\ud800",
        "pipe",
    )
    os.mkfifo(source / "pipe")
    for _ in range(draw.choice((0, 0, 1, 3))):
        row = draw.choice(rows)
        row[draw.randrange(2)] = draw.choice(absurd)
    if draw.random() < 0.5:
        with (source / "images.csv").open("w", newline="", errors="replace") as file:
            csv.writer(file).writerows([["path", "label"], *rows])
        return source / "images.csv"
    values: tuple[Any, ...] = (None, True, -1, 10**30, 0.5, [], {}, [["x"]], float("nan"), 10**4000)
    lines = [{"path": name, "label": _CLASSES.index(label) if label in _CLASSES else label} for name, label in rows]
    for _ in range(draw.choice((0, 0, 1))):
        draw.choice(lines)[draw.choice(("path", "label", "split"))] = draw.choice(values)
    text = "\n".join(json.dumps(line) for line in lines)
    extra = draw.choice(
        ("", "", "", "[" * 100_000, '{"a":' * 100_000, '{"path": 1e999, "label": ' + "9" * 5000 + "}", "\ufeff{}")
    )
    (source / "images.jsonl").write_text(f"{text}\n{extra}")
    return source / "images.jsonl"


def write_tar(draw: random.Random, source: Path, outside: Path) -> Path:
    """A WebDataset archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=draw.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))) as tar:
        for name, label in _names(draw):
            key, suffix = name[:3], name[3:]
            parts = {suffix: image(draw, suffix), ".cls": str(_CLASSES.index(label)).encode()}
            if draw.random() < 0.03:
                labels = (b"", b"-1", b"9" * 999, b"\xff", b"x" * 2000, b"\x1b[31m", "٣".encode(), b"1e3", b"1\n2")
                parts[".cls"] = draw.choice(labels)
            if draw.random() < 0.03:
                key = draw.choice([one for one in hostile_names(outside) if "\0" not in one])
            for ending, content in parts.items():
                member = tarfile.TarInfo(key + ending)
                member.size = len(content)
                if draw.random() < 0.01:
                    member.type, member.linkname = (
                        draw.choice((tarfile.SYMTYPE, tarfile.LNKTYPE)),
                        str(outside / "secret"),
                    )
                    member.size = 0
                if draw.random() < 0.02:
                    member.pax_headers = {
                        draw.choice(("GNU.sparse.size", "size")): draw.choice(("-1", str(2**62), "x"))
                    }
                tar.addfile(member, io.BytesIO(content))
    content = file.getvalue()
    if draw.random() < 0.4:
        content = _changed_tar(draw, content)
    (source / "train-0.tar").write_bytes(content)
    return draw.choice((source, source / "train-0.tar"))


def write_parquet(draw: random.Random, source: Path, outside: Path) -> Path:
    """A parquet file as Hugging Face's datasets exports it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = _names(draw)
    contents: list[Any] = [image(draw, Path(name).suffix) for name, _ in rows]
    labels: list[Any] = [_CLASSES.index(label) for _, label in rows]
    paths: list[Any] = [name for name, _ in rows]
    if draw.random() < 0.4:
        at = draw.randrange(len(rows))
        contents[at], paths[at] = (
            None,
            draw.choice((*hostile_names(outside), str(outside / "secret"), "/dev/zero", None)),
        )
    if draw.random() < 0.3:
        labels = draw.choice((
            [2**62] * len(rows), [-1] * len(rows), [None] * len(rows), ["\x1b[31m", *["x"] * (len(rows) - 1)],
            [2**64 - 1] * len(rows), [0, *[2**40] * (len(rows) - 1)],
        ))  # fmt: skip
    images = [{"bytes": content, "path": path} for content, path in zip(contents, paths, strict=True)]
    names = draw.choice((
        list(_CLASSES), list(_CLASSES), None, 5, "ab", {"0": "bee", "1": "cat"}, {"x": "bee"}, [], [None, [1]],
        ["bee", "bee"], ["\x1b[31m", "cat"], ["x" * 10_000, "cat"], {"0": 1, "00": 2},
    ))  # fmt: skip
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    described = draw.choice((json.dumps({"info": {"features": features}}), "{", "null", '{"info": []}', "[" * 100_000))
    kind = pa.uint64() if 2**64 - 1 in labels else None
    table = pa.table({"image": images, "label": pa.array(labels, kind)})
    pq.write_table(
        table.replace_schema_metadata({"huggingface": described}), source / "train.parquet", row_group_size=3
    )
    if draw.random() < 0.4:
        path = source / "train.parquet"
        path.write_bytes(damaged(draw, path.read_bytes()))
    return draw.choice((source, source / "train.parquet"))


def image(draw: random.Random, suffix: str) -> bytes:
    """An image of a format, whole or not."""
    sort = draw.random()
    if sort < 0.02:
        return draw.choice(_odd_files())
    side = draw.choice(((8, 8), (8, 8), (1, 1), (200, 3), (3, 200)))
    mode = draw.choice(_MODES[suffix])
    picture = Image.new("RGB", side, tuple(draw.randbytes(3))).convert("I" if mode == "I;16" else mode)
    picture = picture.convert(mode) if mode == "I;16" else picture
    exif = Image.Exif()
    exif[0x0112] = draw.choice((1, 3, 6, 8, 0, 99))
    extra = {"exif": exif.tobytes()} if suffix in (".jpg", ".png", ".webp") and draw.random() < 0.3 else {}
    if suffix == ".gif":
        extra = {"save_all": True, "append_images": [picture.copy()] * draw.randint(0, 2)}
    file = io.BytesIO()
    picture.save(file, Image.registered_extensions()[suffix], **extra)
    return damaged(draw, file.getvalue()) if sort < 0.05 else file.getvalue()


@cache
def _odd_files() -> tuple[bytes, ...]:
    """Files that declare what they do not have, or unpack to far more than they are."""
    declared = [_png(side, zlib.compress(bytes(99))) for side in (0, 1, 9_999, 2**31 - 1, 2**32 - 1)]
    bomb = _png(9_999, zlib.compress(bytes(9_999 * (1 + 3 * 9_999)), 1))
    text = zlib.compress(bytes(1 << 28), 1)
    return (
        *(*declared, bomb, _png(8, zlib.compress(bytes(200)), (b"zTXt", b"x\0\0" + text))),
        *(b"", b"\0" * 70_000, b"\xff\xd8\xff", b"GIF89a\xff\xff\xff\xff\0\0\0", b"BM" + b"\xff" * 100),
        *(b"P6 99999 99999 255\n", b"P6 " + b"9" * 5000, b"P1\n8 8\n" + b"0 " * 9, b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        *(b"II*\0" + b"\xff" * 4, b"II*\0\x08\0\0\0\xff\xff" + b"\x01" * 500, b"<svg onload='alert(1)'/>"),
        *(b"RIFF\xff\xff\xff\xffWEBPVP8L\xff\xff\xff\xff" + b"/" * 40, b"\0\0\x01\0\xff\xff" + b"\xff" * 99),
    )


def _png(side: int, pixels: bytes, *others: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), *others, (b"IDAT", pixels), (b"IEND", b""))
    checked = (
        struct.pack(">I", len(one)) + kind + one + struct.pack(">I", zlib.crc32(kind + one)) for kind, one in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(checked)


def _changed_tar(draw: random.Random, content: bytes) -> bytes:
    """An archive in which a field of a header is another, its checksum right; or with other damage."""
    if draw.random() < 0.4:
        return damaged(draw, content)
    changed = bytearray(content)
    at = draw.choice([at for at in range(0, len(changed), 512) if changed[at + 257 : at + 262] == b"ustar"])
    start, size = draw.choice(((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (345, 155)))
    values = (
        b"\x80" + b"\xff" * 11,
        b"\xff" * 12,
        b"77777777777\0",
        b"\0" * 12,
        b"-1\0",
        b"x" * size,
        b"S",
        b"L",
        b"x",
        b"7",
    )
    changed[at + start : at + start + size] = draw.choice(values)[:size].ljust(size, b"\0")
    changed[at + 148 : at + 156] = b" " * 8
    changed[at + 148 : at + 156] = b"%06o\0 " % sum(changed[at : at + 512])
    return bytes(changed)


def _names(draw: random.Random) -> list[tuple[str, str]]:
    """File name and class of each image."""
    suffixes = sorted(_MODES)
    return [(f"{number:03}{draw.choice(suffixes)}", _CLASSES[number % 2]) for number in range(_IMAGES)]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


OWN_FORMS: dict[str, Callable[[random.Random, Path, Path], Path]] = {
    "folders": write_folders,
    "table": write_table,
    "tar": write_tar,
    "parquet": write_parquet,
}
"""Writers of own images; each gives what is named in the command."""
