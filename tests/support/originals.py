"""Writes small data sets in the genuine original formats, for tests of reading and converting.

Legend: N images, H W pixels, C channels.
"""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CIFAR10_NAMES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def random_images(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx_folder(folder: Path, train: int = 20, test: int = 10, packed: bool = True) -> dict[str, np.ndarray]:
    """The four Fashion-MNIST files; returns their arrays by name."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    arrays = {}
    for name in IDX_NAMES:
        count = train if name.startswith("train") else test
        shape = (count, 28, 28) if "images" in name else (count,)
        arrays[name] = rng.integers(0, 256 if "images" in name else 10, shape, dtype=np.uint8)
        content = idx_bytes(arrays[name])
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    return arrays


def python2_batch(images: np.ndarray, labels: list[int], label_key: str) -> bytes:
    """A batch as Python 2 pickled it: byte-string keys, and the pixels as a byte string.

    Python 3 cannot write Python 2's string opcode, so those are put together by hand.
    """

    def text(content: bytes) -> bytes:
        short = len(content) < 256
        return (b"U" + bytes([len(content)]) if short else b"T" + struct.pack("<i", len(content))) + content

    def integer(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    rows, columns = len(images), images[0].size
    pixels = images.transpose(0, 3, 1, 2).tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        + integer(0) + b"\x85" + text(b"b") + b"\x87R"
        + b"(" + integer(1) + integer(rows) + integer(columns) + b"\x86"
        + b"cnumpy\ndtype\n" + text(b"u1") + integer(0) + integer(1) + b"\x87R"
        + b"(" + integer(3) + text(b"|") + b"NNN" + integer(-1) + integer(-1) + integer(0) + b"tb"
        + b"\x89" + text(pixels) + b"tb"
    )  # fmt: skip
    numbers = b"](" + b"".join(integer(label) for label in labels) + b"e"
    names = b"](" + b"".join(text(b"image_%d.png" % index) for index in range(rows)) + b"e"
    entries = [(b"batch_label", text(b"testing batch 1 of 1")), (label_key.encode(), numbers)]
    entries += [(b"data", array), (b"filenames", names)]
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in entries) + b"u."


def python3_batch(images: np.ndarray, labels: list[int], label_key: str, protocol: int) -> bytes:
    """A batch as a script of today writes it."""
    pixels = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    content = {b"data": pixels, label_key.encode(): labels, b"batch_label": b"", b"filenames": []}
    return pickle.dumps(content, protocol=protocol)


def write_cifar10_archive(path: Path, per_batch: int = 4, tamper: dict[str, bytes] | None = None) -> np.ndarray:
    """`cifar-10-python.tar.gz`; returns the images of all six batches in order. `tamper` replaces whole files."""
    images = random_images(6 * per_batch, 32, 32)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        # The genuine archive does not hold its batches in order either.
        for name in ("batches.meta", *reversed(CIFAR10_NAMES)):
            content = b"not read"
            if name in CIFAR10_NAMES:
                first = CIFAR10_NAMES.index(name) * per_batch
                labels = [index % 10 for index in range(first, first + per_batch)]
                content = python2_batch(images[first : first + per_batch], labels, "labels")
            content = (tamper or {}).get(name, content)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return images


def jpeg_bytes(image: np.ndarray) -> bytes:
    """A JPEG file of an H x W (grey) or H x W x 3 image."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def tiny_files(rearranged: str = "") -> dict[str, bytes]:
    """Tiny ImageNet of 3 classes, by path; `val` as published, `flat` (val/<wnid>/), `deep` (val/<wnid>/images/) or
    `turned` (val/images/<wnid>/)."""
    wnids = ("n03", "n01", "n02")
    files: dict[str, bytes] = {"wnids.txt": "\n".join(wnids).encode()}
    table = []
    for index, wnid in enumerate(wnids):
        for number in range(3):
            colour = random_images(1, 64, 64, seed=10 * index + number)[0]
            image = colour[..., 0] if number == 1 else colour
            files[f"train/{wnid}/images/{wnid}_{number}.JPEG"] = jpeg_bytes(image)
        for number in (index, 5 - index):
            name = f"val_{number}.JPEG"
            place = {
                "": "val/images",
                "flat": f"val/{wnid}",
                "deep": f"val/{wnid}/images",
                "turned": f"val/images/{wnid}",
            }[rearranged]
            files[f"{place}/{name}"] = jpeg_bytes(random_images(1, 64, 64, seed=100 + number)[0])
            table.append(f"{name}\t{wnid}\t0\t32\t44\t62\n")
    if not rearranged:
        files["val/val_annotations.txt"] = "".join(table).encode()
    return files


def write_tiny_folder(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def write_tiny_archive(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"tiny-imagenet-200/{name}", content)
