"""Small originals of published data sets, in their genuine formats, some of them made to do harm.

What is written lies in a folder `source`; `outside`, beside it, is what hostile ones aim at. Legend: N images.
"""

import bz2
import gzip
import io
import lzma
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.faults.damage import damaged
from pipelines.datasets.catalog import DATASETS
from pipelines.datasets.cifar_c import CORRUPTIONS

_PER_FILE = 4  # images of a batch, or of a split
_PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "gz": lambda content: gzip.compress(content, 1),
    "bz2": lambda content: bz2.compress(content, 1),
    "xz": lambda content: lzma.compress(content, preset=0),
}


def hostile_names(outside: Path) -> tuple[str, ...]:
    """Names of members that lead out of an archive, or that a file system or a terminal cannot stand."""
    return (
        *("../outside/owned", "../../outside/owned", str(outside / "owned"), f"train/{outside}/owned", "/dev/full"),
        *("a\0b.png", "x" * 300, "y/" * 3000 + "z.png", "\x1b[31mred.png", "one\ntwo.png", "\u202egnp.exe", "."),
        *("..", "", "/", "C:\\windows\\owned.png", "\\\\host\\share", "CON", "nul.png", "~/owned", "$(id).png"),
    )


def gadgets(outside: Path) -> tuple[bytes, ...]:
    """Pickles that have a command run, take much memory, or go on without end."""
    command = f"touch {outside / 'executed'}".encode()
    run = b"cposix\nsystem\n(S'" + command + b"'\ntR."
    return (
        *(run, b"\x80\x02" + run, b"cbuiltins\nexec\n(S'import os'\ntR.", b"(S'" + command + b"'\nios\nsystem\n."),
        *(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c" + bytes([len(command)]) + command + b"\x85R.",),
        *(
            b"c__builtin__\ngetattr\n.",
            b"cnumpy\nload\n.",
            b"\x80\x02]r\xff\xff\xff\x3f.",
            b"\x80\x02]r\xff\xff\xff\xff.",
        ),
        *(
            b"\x8e" + b"\xff" * 8,
            b"B\xff\xff\xff\x7f",
            b"T\xff\xff\xff\x7f",
            b"\x8b\xff\xff\xff\x7f1",
            b"(" * 1_000_000,
        ),
        *(b"]" * 100_000 + b"a" * 99_999 + b".", b"I" + b"9" * 100_000 + b"\n.", b"P1\n.", b"}.", b"N.", b"."),
        *(_array_pickle(2**31, 3072, b""), _array_pickle(-1, 3072, b"x"), _array_pickle(0, 3072, b"")),
    )


def write_fashion(draw: random.Random, source: Path, outside: Path) -> str:
    """The four IDX files, packed or not."""
    hostile = draw.random() < 0.5
    for file in DATASETS["fashion_mnist"].files:
        shape = (_PER_FILE, 28, 28) if "images" in file.name else (_PER_FILE,)
        content = bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape)
        content += draw.randbytes(int(np.prod(shape))) if len(shape) > 1 else bytes(range(_PER_FILE))
        if hostile and draw.random() < 0.5:
            absurd = [draw.choice((0, 1, _PER_FILE, 28, 2**31, 2**32 - 1)) for _ in range(draw.randint(0, 6))]
            content = bytes((0, 0, 8, draw.choice((len(absurd), 255)))) + struct.pack(f">{len(absurd)}I", *absurd)
            content += draw.randbytes(draw.choice((0, 16, 3136)))
        packed = draw.random() < 0.5
        (source / f"{file.name}{'.gz' if packed else ''}").write_bytes(gzip.compress(content) if packed else content)
    return "IDX files"


def write_cifar(draw: random.Random, source: Path, outside: Path, name: str) -> str:
    """The pickled batches, in an archive or in a folder."""
    info = DATASETS[name]
    label = "labels" if name == "cifar10" else "fine_labels"
    batches = {file.name: _batch(draw, label) for file in info.files}
    if draw.random() < 0.4:
        batches[draw.choice(sorted(batches))] = draw.choice(gadgets(outside))
    if draw.random() < 0.3:
        for file, content in batches.items():
            (source / file).write_bytes(content)
        return "CIFAR batches"
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=draw.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))) as tar:
        for batch, content in batches.items():
            for member in _members(draw, f"cifar/{batch}", outside):
                member.size = len(content) if member.isreg() else 0
                tar.addfile(member, io.BytesIO(content))
    content = file.getvalue()
    if draw.random() < 0.3:
        content = damaged(draw, content)
    packer = draw.choice(sorted(_PACKERS))
    (source / str(info.archive)).write_bytes(_PACKERS[packer](content))
    return f"a CIFAR archive, {packer}"


def write_tiny(draw: random.Random, source: Path, outside: Path) -> str:
    """Tiny ImageNet of two classes, in an archive or in a folder."""
    files = {"val/val_annotations.txt": b"v0.JPEG\tn0\t0\t0\t9\t9\nv1.JPEG\tn1\t0\t0\t9\t9\n"}
    for number in range(2):
        files[f"train/n{number}/images/n{number}_0.JPEG"] = _jpeg(draw)
        files[f"val/images/v{number}.JPEG"] = _jpeg(draw)
    if draw.random() < 0.4:
        wrong = (b"", b"no image", _jpeg(draw, (63, 64)), damaged(draw, _jpeg(draw)), _jpeg(draw)[:300])
        files[draw.choice(sorted(files))] = draw.choice(
            (*wrong, b"v0.JPEG\tn9\n", b"\xff\t\0\n" * 9, *gadgets(outside)[:1])
        )
    if draw.random() < 0.3:
        for name, content in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
        return "Tiny ImageNet's folder"
    file, method = (
        io.BytesIO(),
        draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)),
    )
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(f"tiny-imagenet-200/{name}", content)
        if draw.random() < 0.4:
            for name in draw.sample(hostile_names(outside), 3):
                link = zipfile.ZipInfo(draw.choice((name, f"train/n0/images/{name}.JPEG")) or "x")
                link.external_attr = draw.choice((0o120777, 0o100644, 0o020666, 0)) << 16
                archive.writestr(link, draw.choice((str(outside / "secret").encode(), _jpeg(draw))))
    content = file.getvalue()
    if draw.random() < 0.5:
        content = _changed_zip(draw, content)
    (source / str(DATASETS["tinyimagenet"].archive)).write_bytes(content)
    return f"Tiny ImageNet's archive, method {method}"


def write_cifar_c(draw: random.Random, source: Path, outside: Path) -> str:
    """The folder of corrupted test images."""
    images = np.zeros((5 * _PER_FILE, 32, 32, 3), np.uint8)
    for name in CORRUPTIONS:
        np.save(source / f"{name}.npy", images)
    np.save(source / "labels.npy", np.tile(np.arange(_PER_FILE), 5))
    if draw.random() < 0.6:
        path = source / f"{draw.choice((*CORRUPTIONS[:2], 'labels', 'labels'))}.npy"
        header = f"{{'descr': {draw.choice(('|u1', '<i8', '|O', '<f8'))!r}, 'fortran_order': False, 'shape': "
        shape = draw.choice(("(20,)", "()", "(-5,)", f"({2**62},)", "(0,)", "(20, 32, 32, 3)", "(", "[20]", "20"))
        text = (header + shape + "}").encode() + b"\n"
        start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
        path.write_bytes(
            draw.choice((start, start + path.read_bytes()[128:], draw.choice(gadgets(outside)), b"PK\x03\x04"))
        )
    return "CIFAR-C"


def _batch(draw: random.Random, label: str) -> bytes:
    """As today's Python writes it, or as Python 2 did."""
    pixels = np.frombuffer(draw.randbytes(_PER_FILE * 3072), np.uint8).reshape(_PER_FILE, 3072)
    if draw.random() < 0.5:
        content = {b"data": pixels, label.encode(): list(range(_PER_FILE)), b"filenames": []}
        return pickle.dumps(content, protocol=draw.choice((0, 2, 3, 4, 5)))
    numbers = b"](" + b"".join(b"K" + bytes([number]) for number in range(_PER_FILE)) + b"e"
    key = b"U" + bytes([len(label)]) + label.encode()
    return b"\x80\x02}(" + key + numbers + b"U\x04data" + _array_pickle(_PER_FILE, 3072, pixels.tobytes())[2:-1] + b"u."


def _array_pickle(rows: int, columns: int, content: bytes) -> bytes:
    """A uint8 array as Python 2 pickled it."""
    shape = b"".join(b"J" + struct.pack("<i", min(number, 2**31 - 1)) for number in (rows, columns))
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01" + shape + b"\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<i", len(content)) + content + b"tb."
    )  # fmt: skip


def _members(draw: random.Random, name: str, outside: Path) -> list[tarfile.TarInfo]:
    """The member that belongs there; now and then others before it, or something else in its place."""
    member = tarfile.TarInfo(name)
    if draw.random() < 0.8:
        return [member]
    other = tarfile.TarInfo(draw.choice((name, *(one for one in hostile_names(outside) if "\0" not in one))))
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.CONTTYPE)
    other.type = draw.choice((*kinds, tarfile.REGTYPE))
    other.linkname = draw.choice((name, "../outside/secret", str(outside / "secret"), "/dev/zero"))
    if other.type == tarfile.REGTYPE and draw.random() < 0.5:
        key = draw.choice(("GNU.sparse.size", "GNU.sparse.realsize", "GNU.sparse.map", "size", "path", "mtime"))
        other.pax_headers = {key: draw.choice(("-1", str(2**40), str(2**70), "x", "1,2,3", "nan", "\ud800"[:0]))}
    return draw.choice(([other, member], [other], [member, member], [member, other]))


def _changed_zip(draw: random.Random, content: bytes) -> bytes:
    """A zip archive with one field of a header changed, in all members or in one, or with other damage."""
    if draw.random() < 0.3:
        return damaged(draw, content)
    changed = bytearray(content)
    # Where the fields of a member's entry in the directory at the end are; and their sizes.
    start, size = draw.choice(((4, 2), (6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (42, 4)))
    value = draw.choice((1, 9, 12, 14, 64, 95, 99, 2**15, 2**16 - 1, 2**31, 2**32 - 1)).to_bytes(4, "little")[:size]
    entries = [at for at in range(len(changed)) if changed[at : at + 4] == b"PK\x01\x02"]
    for at in draw.choice((entries, entries[:1])):
        changed[at + start : at + start + size] = value
    return bytes(changed)


def _jpeg(draw: random.Random, size: tuple[int, int] = (64, 64)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, tuple(draw.randbytes(3))).save(file, "JPEG")
    return file.getvalue()
