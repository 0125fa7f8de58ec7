"""The same small images in each form that a user may have them in, for tests of converting own images.

Legend: N images, H W pixels.
"""

import csv
import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.datasets.convert import ConvertResult
from pipelines.datasets.own.convert import convert_folder

CLASSES = ("bee", "cat", "dog")
TRAIN, TEST = 12, 6  # images
SUFFIXES = (".png", ".jpg", ".webp", ".gif")


def encoded(number: int, side: int = 16, suffix: str = ".png") -> bytes:
    """An image of its own for each number, some grey, in a format."""
    random = np.random.default_rng(number)
    shape = (side, side) if number % 3 == 0 else (side, side, 3)
    file = io.BytesIO()
    image = Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))
    image.save(file, format=Image.registered_extensions()[suffix])
    return file.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """A piece of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def declaring(side: int) -> bytes:
    """A PNG file that says it has so many pixels of a side, and has next to none."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def images(split: str) -> list[tuple[str, str, bytes]]:
    """(class, file name, content) of each image of a split, in the order of class folders."""
    numbers = range(TRAIN) if split == "train" else range(100, 100 + TEST)
    made = [(CLASSES[number % 3], f"{number:03}{SUFFIXES[number % 4]}", number) for number in numbers]
    return sorted((label, name, encoded(number, suffix=Path(name).suffix)) for label, name, number in made)


def write_folders(folder: Path, splits: tuple[str, ...] = ("train", "val")) -> Path:
    """Class folders in a folder for each split; in none where a split is called ""."""
    for split in splits:
        for label, name, content in images("train" if split in ("train", "") else "val"):
            (folder / split / label).mkdir(parents=True, exist_ok=True)
            (folder / split / label / name).write_bytes(content)
    return folder


def write_csv(folder: Path) -> Path:
    write_folders(folder)
    with (folder / "images.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "path", "label"])
        for split in ("train", "val"):
            writer.writerows([split, f"{split}/{label}/{name}", label] for label, name, _ in images(split))
    return folder / "images.csv"


def write_jsonl(folder: Path) -> Path:
    write_folders(folder)
    rows = [
        {"path": f"{split}/{label}/{name}", "label": CLASSES.index(label), "split": split}
        for split in ("train", "val")
        for label, name, _ in images(split)
    ]
    (folder / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "images.jsonl"


def write_parquet(folder: Path, row_group: int = 5) -> Path:
    """As Hugging Face's datasets exports them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    features = {"image": {"_type": "Image"}, "label": {"names": list(CLASSES), "_type": "ClassLabel"}}
    for split, word in (("train", "train"), ("val", "validation")):
        rows = images(split)
        table = pa.table(
            {
                "image": [{"bytes": content, "path": name} for _, name, content in rows],
                "label": [CLASSES.index(label) for label, _, _ in rows],
            }
        ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, folder / f"{word}-00000-of-00001.parquet", row_group_size=row_group)
    return folder


def write_tars(folder: Path, shards: int = 2) -> Path:
    """As WebDataset has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        rows = images(split)
        for shard in range(shards):
            with tarfile.open(folder / f"{split}-{shard:04}.tar", "w") as tar:
                for label, name, content in rows[shard * len(rows) // shards : (shard + 1) * len(rows) // shards]:
                    add(tar, name, content)
                    add(tar, f"{name.partition('.')[0]}.cls", str(CLASSES.index(label)).encode())
    return folder


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def convert(path: Path, data_dir: Path, name: str = "pets", **options) -> ConvertResult:
    """Converts quietly, with one process."""
    return convert_folder(path, name, data_dir, **{"workers": 1, "notify": lambda _: None} | options)
