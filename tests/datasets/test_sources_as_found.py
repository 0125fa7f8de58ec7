"""Originals as people really have them: what systems leave beside them is no data, and what cannot be read says so."""

import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import originals
import pytest

from mixmo_fast.errors import DataError
from pipelines.datasets import sources_files
from pipelines.datasets.catalog import DATASETS, DatasetInfo
from pipelines.datasets.sources import OriginalImages, find_original, read_original
from pipelines.datasets.sources_idx import parse_idx

CIFAR10, FASHION, TINY = (DATASETS[name] for name in ("cifar10", "fashion_mnist", "tinyimagenet"))
APPLE_DOUBLE = b"\x00\x05\x16\x07" + bytes(100)  # what macOS leaves on foreign disks


def read(info: DatasetInfo, source: Path) -> OriginalImages:
    return read_original(info, source, source.parent, verify=False, notify=lambda line: None)


def assert_same_images(found: OriginalImages, expected: OriginalImages) -> None:
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))


@pytest.fixture
def plain(tmp_path) -> OriginalImages:
    originals.write_tiny_folder(tmp_path / "plain", originals.tiny_files())
    return read(TINY, tmp_path / "plain")


@pytest.mark.parametrize(
    "left",
    [
        {"train/n01/images/._n01_0.JPEG": APPLE_DOUBLE, "train/.DS_Store": b"x"},
        {"train/.ipynb_checkpoints/a-checkpoint.JPEG": APPLE_DOUBLE, "val/images/.hidden.JPEG": b""},
    ],
)
def test_hidden_files_are_no_data(tmp_path, plain, left):
    files = originals.tiny_files() | left
    originals.write_tiny_folder(tmp_path / "folder", files)
    assert_same_images(read(TINY, tmp_path / "folder"), plain)
    mac = {f"../__MACOSX/tiny-imagenet-200/{name}": APPLE_DOUBLE for name in files if name.endswith(".JPEG")}
    with zipfile.ZipFile(tmp_path / "mac.zip", "w") as archive:
        for name, content in (mac | files).items():
            archive.writestr(f"tiny-imagenet-200/{name}".replace("tiny-imagenet-200/../", ""), content)
    assert_same_images(read(TINY, tmp_path / "mac.zip"), plain)


def test_the_folder_that_the_authors_script_makes_is_found(tmp_path, plain):
    originals.write_tiny_folder(tmp_path / "tinyimagenet200-data", originals.tiny_files("turned"))
    assert find_original(TINY, tmp_path) == tmp_path / "tinyimagenet200-data"
    assert_same_images(read(TINY, tmp_path), plain)


def test_damaged_images_are_counted_and_the_first_are_named(tmp_path):
    files = originals.tiny_files()
    names = sorted(name for name in files if name.startswith("train/"))[:5]
    originals.write_tiny_folder(tmp_path, files | {name: files[name][:200] for name in names})
    with pytest.raises(DataError) as refused:
        read(TINY, tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}: 5 files are cut short or damaged ({', '.join(names[:3])}, ...): fetch them again"
    )


def test_no_message_has_an_address_in_memory(tmp_path):
    files = originals.tiny_files() | {"train/n01/images/n01_0.JPEG": b"no image"}
    originals.write_tiny_folder(tmp_path, files)
    with pytest.raises(DataError, match=r"n01_0\.JPEG: cut short or damaged \(cannot identify image file\): fetch it"):
        read(TINY, tmp_path)


@pytest.mark.parametrize(
    ("offset", "value", "said"), [(6, 1, "is encrypted"), (8, 9, "is packed by a method that Python cannot read")]
)
def test_archives_that_python_cannot_unpack_say_what_to_do(tmp_path, offset, value, said):
    """As Windows packs large ones (Deflate64), or with a password."""
    path = tmp_path / "tiny-imagenet-200.zip"
    originals.write_tiny_archive(path, originals.tiny_files())
    content = bytearray(path.read_bytes())
    for mark, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        at = content.find(mark)
        while at >= 0:
            content[at + offset + shift] = value
            at = content.find(mark, at + 1)
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{said}: unpack it with another program and name the folder by --source"):
        read(TINY, path)


@pytest.mark.parametrize(("suffix", "version"), [(".bin", "binary"), (".mat", "MATLAB")])
def test_another_version_of_cifar_is_told_apart(tmp_path, suffix, version):
    path = tmp_path / "cifar.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo(f"cifar/data_batch_1{suffix}"))
    with pytest.raises(DataError, match=f"this is the {version} version, the Python version is wanted"):
        read(CIFAR10, path)


def test_files_larger_than_any_original_are_refused_by_what_they_declare(tmp_path, monkeypatch):
    monkeypatch.setattr(sources_files, "_LARGEST_BYTES", 10_000)
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        member.size = 20_000
        tar.addfile(member, io.BytesIO(bytes(20_000)))
    with pytest.raises(DataError, match=r"data_batch_1: more than 10,000 bytes, which no original file has"):
        read(CIFAR10, archive)
    originals.write_idx_folder(tmp_path / "fashion", train=20)
    with pytest.raises(DataError, match=r"ubyte\.gz: more than 10,000 bytes"):
        read(FASHION, tmp_path / "fashion")
    with zipfile.ZipFile(tmp_path / "tiny.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("tiny-imagenet-200/train/n01/images/a.JPEG", bytes(20_000))
    with pytest.raises(DataError, match="holds a file of 20,000 bytes, more than any original"):
        read(TINY, tmp_path / "tiny.zip")


@pytest.mark.parametrize("shape", [(), (0,) * 200, (2**32 - 1, 0, 1, 1, 1)])
def test_absurd_shapes_are_one_line(shape):
    content = bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape)
    with pytest.raises(DataError, match=f"an array of {len(shape)} dimensions, allowed: 1 to 4"):
        parse_idx(content, Path("x"))
