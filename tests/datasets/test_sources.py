"""Claims about reading originals: genuine formats are read exactly, and everything else is refused by name."""

import dataclasses
import gzip
import hashlib
import os
import pickle
import urllib.error
import zipfile
from pathlib import Path

import numpy as np
import originals
import pytest

from mixmo_fast.errors import DataError
from pipelines.datasets.catalog import DATASETS, DatasetInfo, OriginalFile, ServedFile
from pipelines.datasets.sources import find_original, read_digits, read_original
from pipelines.datasets.sources_cifar import parse_batch

FASHION, CIFAR10, CIFAR100, TINY = (DATASETS[name] for name in ("fashion_mnist", "cifar10", "cifar100", "tinyimagenet"))
ARCHIVE = "cifar-10-python.tar.gz"
JPEG_64_X_64 = originals.jpeg_bytes(originals.random_images(1, 64, 64)[0])


def read(info: DatasetInfo, source: Path | None, data_dir: Path, verify: bool = False):
    return read_original(info, source, data_dir, verify=verify, notify=lambda line: None)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


# Digits


def test_digits_split_is_stratified_and_takes_the_last_fifth_of_each_class():
    from sklearn.datasets import load_digits

    train_images, train_labels, test_images, test_labels = read_digits()
    digits = load_digits()
    assert train_images.shape == (1438, 16, 16, 3) and test_images.shape == (359, 16, 16, 3)
    for label in range(10):
        of_class = np.round(digits.images[digits.target == label] * 255 / 16)
        got = np.concatenate([train_images[train_labels == label], test_images[test_labels == label]])
        np.testing.assert_array_equal(got[:, ::2, ::2, 0], of_class)
        assert (test_labels == label).sum() == round(len(of_class) / 5)
    np.testing.assert_array_equal(train_images[:, ::2, ::2], train_images[:, 1::2, 1::2])
    assert (train_images == train_images[..., :1]).all()


# IDX


@pytest.mark.parametrize("packed", [True, False])
def test_idx_images_are_padded_by_two_and_repeated_over_channels(tmp_path, packed):
    arrays = originals.write_idx_folder(tmp_path / "FashionMNIST" / "raw", packed=packed)
    got = read(FASHION, None, tmp_path)
    assert got.train_images.shape == (20, 32, 32, 3) and got.test_images.shape == (10, 32, 32, 3)
    for channel in range(3):
        np.testing.assert_array_equal(got.train_images[:, 2:-2, 2:-2, channel], arrays[originals.IDX_NAMES[0]])
    assert got.train_images.sum() == 3 * arrays[originals.IDX_NAMES[0]].astype(int).sum()
    np.testing.assert_array_equal(got.test_labels, arrays[originals.IDX_NAMES[3]])
    assert not got.verified and got.test_labels.dtype == np.int64


@pytest.mark.parametrize("keep", [3, 10, 1000, -1])
@pytest.mark.parametrize("packed", [True, False])
def test_truncated_idx_file_is_named(tmp_path, keep, packed):
    originals.write_idx_folder(tmp_path, packed=packed)
    path = next(tmp_path.glob("t10k-images*"))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte"):
        read(FASHION, tmp_path, tmp_path)


def test_idx_labels_out_of_range_and_missing_labels_are_refused(tmp_path):
    originals.write_idx_folder(tmp_path)
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(originals.idx_bytes(np.full(10, 10, np.uint8))))
    with pytest.raises(DataError, match="labels from 10 to 10, allowed are 0 to 9"):
        read(FASHION, tmp_path, tmp_path)
    labels.write_bytes(gzip.compress(originals.idx_bytes(np.zeros(9, np.uint8))))
    with pytest.raises(DataError, match="10 test images and 9 labels"):
        read(FASHION, tmp_path, tmp_path)
    labels.unlink()
    with pytest.raises(DataError, match="lacks t10k-labels-idx1-ubyte"):
        read(FASHION, tmp_path, tmp_path)


# CIFAR


def test_cifar_archive_and_unpacked_folder_give_the_same_exact_images(tmp_path):
    import tarfile

    images = originals.write_cifar10_archive(tmp_path / ARCHIVE)
    from_archive = read(CIFAR10, tmp_path / ARCHIVE, tmp_path)
    with tarfile.open(tmp_path / ARCHIVE) as tar:
        tar.extractall(tmp_path / "cifar10-data", filter="data")
    from_folder = read(CIFAR10, None, tmp_path)
    for got in (from_archive, from_folder):
        np.testing.assert_array_equal(got.train_images, images[:20])
        np.testing.assert_array_equal(got.test_images, images[20:])
        np.testing.assert_array_equal(got.train_labels, np.arange(20) % 10)
    assert from_archive.files == (ARCHIVE,)
    assert from_folder.files == originals.CIFAR10_NAMES


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("labels", [[3, 99], np.array([3, 99]), [np.int64(3), np.int32(99)]])
def test_cifar_batches_of_every_pickle_protocol_are_read(protocol, labels):
    images = originals.random_images(2, 32, 32)
    content = originals.python3_batch(images, labels, "fine_labels", protocol)
    got_images, got_labels = parse_batch(content, Path("train"), CIFAR100)
    np.testing.assert_array_equal(got_images, images)
    assert got_labels.tolist() == [3, 99] and got_labels.dtype == np.int64


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("was-run",)


@pytest.mark.parametrize("protocol", range(6))
def test_malicious_pickle_is_refused_and_not_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    tamper = {"data_batch_2": pickle.dumps({b"data": Malicious()}, protocol=protocol)}
    originals.write_cifar10_archive(tmp_path / ARCHIVE, tamper=tamper)
    with pytest.raises(DataError, match=r"data_batch_2.*asks for \w+\.mkdir.*refused"):
        read(CIFAR10, tmp_path / ARCHIVE, tmp_path)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        pickle.dumps([1, 2]),
        pickle.dumps({b"data": np.zeros((2, 3072), np.float32), b"labels": [0, 1]}),
        pickle.dumps({b"data": np.zeros((2, 3071), np.uint8), b"labels": [0, 1]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, "1"]}),
        pickle.dumps({b"data": np.array([None, {}]), b"labels": [0, 1]}),
    ],
)
def test_batches_that_hold_something_else_are_named(content):
    with pytest.raises(DataError, match="some/data_batch_1"):
        parse_batch(content, Path("some/data_batch_1"), CIFAR10)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_truncated_archive_is_named(tmp_path, share):
    originals.write_cifar10_archive(tmp_path / ARCHIVE)
    content = (tmp_path / ARCHIVE).read_bytes()
    (tmp_path / ARCHIVE).write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=ARCHIVE):
        read(CIFAR10, tmp_path / ARCHIVE, tmp_path)


def test_whole_archive_is_preferred_to_an_interrupted_unpacking(tmp_path):
    originals.write_cifar10_archive(tmp_path / ARCHIVE)
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"")
    assert find_original(CIFAR10, tmp_path) == tmp_path / ARCHIVE


def test_wrong_checksum_is_refused_and_no_verify_is_loud(tmp_path):
    originals.write_cifar10_archive(tmp_path / ARCHIVE)
    with pytest.raises(DataError, match=r"MD5 .* the published one is .*--no-verify"):
        read_original(CIFAR10, tmp_path / ARCHIVE, tmp_path)
    lines = []
    got = read_original(CIFAR10, tmp_path / ARCHIVE, tmp_path, verify=False, notify=lines.append)
    assert len(lines) == 1 and lines[0].startswith("warning: --no-verify") and not got.verified


def test_right_checksums_but_another_number_of_images_is_refused_when_verifying(tmp_path):
    originals.write_idx_folder(tmp_path, packed=False)
    files = tuple(OriginalFile(name, md5((tmp_path / name).read_bytes())) for name in originals.IDX_NAMES)
    info = dataclasses.replace(FASHION, files=files, train_images=20, test_images=10)
    assert read(info, tmp_path, tmp_path, verify=True).verified
    with pytest.raises(DataError, match="20 training images, Fashion-MNIST has 21"):
        read(dataclasses.replace(info, train_images=21), tmp_path, tmp_path, verify=True)


# Tiny ImageNet


def test_tiny_imagenet_is_the_same_from_every_arrangement(tmp_path):
    files = originals.tiny_files()
    originals.write_tiny_archive(tmp_path / "tiny-imagenet-200.zip", files)
    reference = read(TINY, None, tmp_path)
    assert reference.train_images.shape == (9, 64, 64, 3) and reference.test_images.shape == (6, 64, 64, 3)
    assert reference.train_labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert reference.test_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert (reference.train_images[1] == reference.train_images[1][..., :1]).all(), "a grey JPEG became colour"
    for arrangement in ("", "flat", "deep", "turned"):
        folder = tmp_path / f"as-{arrangement}" / "tiny-imagenet-200"
        originals.write_tiny_folder(folder, originals.tiny_files(arrangement))
        got = read(TINY, folder.parent, tmp_path)
        for field in ("train_images", "train_labels", "test_images", "test_labels"):
            np.testing.assert_array_equal(getattr(got, field), getattr(reference, field))


def test_tiny_imagenet_pixels_are_those_that_pillow_decodes(tmp_path):
    from PIL import Image

    files = originals.tiny_files()
    originals.write_tiny_folder(tmp_path, files)
    got = read(TINY, tmp_path, tmp_path)
    with Image.open(tmp_path / "train/n01/images/n01_0.JPEG") as image:
        np.testing.assert_array_equal(got.train_images[0], np.asarray(image))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "train/n02/images/n02_1.JPEG",
            originals.jpeg_bytes(originals.random_images(1, 64, 64)[0])[:900],
            "n02_1.JPEG",
        ),
        ("train/n02/images/n02_1.JPEG", b"GIF89a", "n02_1.JPEG"),
        ("val/images/val_0.JPEG", originals.jpeg_bytes(originals.random_images(1, 32, 64)[0]), "64 x 32 pixels"),
        ("val/val_annotations.txt", b"val_0.JPEG\tn01\t0\t0\t1\t1\n", "does not mention val_1.JPEG"),
        ("val/val_annotations.txt", None, "val_annotations.txt not found"),
    ],
)
def test_damaged_tiny_imagenet_is_named(tmp_path, name, content, message):
    files = originals.tiny_files() | {name: content}
    originals.write_tiny_folder(tmp_path, {path: data for path, data in files.items() if data is not None})
    with pytest.raises(DataError, match=message):
        read(TINY, tmp_path, tmp_path)


def test_tiny_imagenet_archive_is_verified_as_a_whole_and_a_folder_is_counted(tmp_path):
    path = tmp_path / "tiny-imagenet-200.zip"
    originals.write_tiny_archive(path, originals.tiny_files())
    with pytest.raises(DataError, match=r"tiny-imagenet-200\.zip: MD5"):
        read(TINY, path, tmp_path, verify=True)
    served = (ServedFile(path.name, "", md5(path.read_bytes())),)
    small = dataclasses.replace(TINY, served=served, train_images=9, test_images=6)
    assert read(small, path, tmp_path, verify=True).verified
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "folder")
    lines = []
    assert not read_original(small, tmp_path / "folder", tmp_path, notify=lines.append).verified
    assert "images are counted instead" in lines[0]
    with pytest.raises(DataError, match="9 training images, Tiny ImageNet-200 has 100,000"):
        read(dataclasses.replace(small, train_images=100_000), tmp_path / "folder", tmp_path, verify=True)


# Where originals are looked for


def test_unusable_sources_are_one_clear_line(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="absent does not exist"):
        read(CIFAR10, tmp_path / "absent", tmp_path)
    with pytest.raises(DataError, match=r"lacks data_batch_1, .*, and cifar-10-python.tar.gz is not there either"):
        read(CIFAR10, tmp_path / "empty", tmp_path)
    with pytest.raises(DataError, match="is a file: name the folder that holds train-images-idx3-ubyte"):
        read(FASHION, tmp_path / "file", tmp_path)
    with pytest.raises(DataError, match="file: cut short or damaged"):
        read(TINY, tmp_path / "file", tmp_path)
    with pytest.raises(DataError, match=r"fetch http://cs231n.*tiny-imagenet-200.zip and put it there"):
        read(TINY, None, tmp_path)


def test_failed_download_names_the_file_and_where_to_put_it(tmp_path, monkeypatch):
    utils = pytest.importorskip("torchvision.datasets.utils")

    def unreachable(url, root, filename, md5):
        (Path(root) / filename).write_bytes(b"half")
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(utils, "download_url", unreachable)
    with pytest.raises(DataError, match=rf"could not fetch {ARCHIVE} .*no route.* put it into {tmp_path}"):
        read(CIFAR10, None, tmp_path, verify=True)
    assert list(tmp_path.iterdir()) == []


def test_download_lands_where_it_is_found_again(tmp_path, monkeypatch):
    utils = pytest.importorskip("torchvision.datasets.utils")
    originals.write_idx_folder(tmp_path / "served")
    monkeypatch.setattr(
        utils,
        "download_url",
        lambda url, root, filename, md5: (Path(root) / filename).write_bytes(
            (tmp_path / "served" / url.rsplit("/", 1)[1]).read_bytes()
        ),
    )
    got = read(FASHION, None, tmp_path / "data")
    assert find_original(FASHION, tmp_path / "data") == tmp_path / "data" / "FashionMNIST" / "raw"
    assert len(got.train_images) == 20
