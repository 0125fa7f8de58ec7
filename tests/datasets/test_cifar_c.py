"""CIFAR-C folders are found, checked whole before they are used, and read block by block."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from mixmo_fast.errors import DataError
from pipelines.datasets.cifar_c import BENCHMARK, CORRUPTIONS, EXTRA, SEVERITIES, find_cifar_c, open_cifar_c

COUNT = 4
LABELS = np.array([3, 9, 0, 3])


def stacked_images(corruption: str) -> np.ndarray:
    """Each image of one value, which tells corruption, severity and index apart."""
    value = 10 * CORRUPTIONS.index(corruption) + np.arange(5 * COUNT)
    return np.broadcast_to(value[:, None, None, None], (5 * COUNT, 32, 32, 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A small folder in the published format."""
    place = tmp_path / "data" / "CIFAR-10-C"
    place.mkdir(parents=True)
    for corruption in CORRUPTIONS:
        np.save(place / f"{corruption}.npy", stacked_images(corruption))
    np.save(place / "labels.npy", np.tile(LABELS, 5).astype(np.uint8))
    return place


def test_fifteen_corruptions_are_the_benchmark_and_four_are_extra():
    assert (len(set(BENCHMARK)), len(set(EXTRA)), len(set(CORRUPTIONS))) == (15, 4, 19)


def test_every_block_holds_its_corruption_and_severity(folder):
    opened = open_cifar_c(folder, 10, LABELS)
    assert opened.labels.dtype == np.int64
    assert opened.labels.tolist() == LABELS.tolist()
    for corruption in CORRUPTIONS:
        for severity in SEVERITIES:
            images = opened.images(corruption, severity)
            assert images.dtype == np.uint8
            assert images.shape == (COUNT, 32, 32, 3)
            first = (severity - 1) * COUNT
            assert (images == stacked_images(corruption)[first : first + COUNT]).all()


def test_images_are_the_callers_own(folder):
    opened = open_cifar_c(folder, 10)
    opened.images("fog", 1)[:] = 0
    assert (opened.images("fog", 1) == stacked_images("fog")[:COUNT]).all()


@pytest.mark.parametrize(("corruption", "severity"), [("rain", 1), ("fog", 0), ("fog", 6), ("labels", 1)])
def test_only_the_published_corruptions_can_be_asked_for(folder, corruption, severity):
    with pytest.raises(ValueError, match="no corruption"):
        open_cifar_c(folder, 10).images(corruption, severity)


def test_a_file_that_changes_later_is_noticed(folder):
    opened = open_cifar_c(folder, 10)
    (folder / "fog.npy").unlink()
    with pytest.raises(DataError, match=r"fog\.npy is missing"):
        opened.images("fog", 1)


def pickled() -> bytes:
    return pickle.dumps(np.zeros(3))


def array_of_objects() -> bytes:
    content = io.BytesIO()
    np.save(content, np.array([{}], dtype=object), allow_pickle=True)
    return content.getvalue()


def several_arrays() -> bytes:
    content = io.BytesIO()
    np.savez(content, np.zeros(3))
    return content.getvalue()


def one_array(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


IMAGES = np.zeros((5 * COUNT, 32, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "fog.npy is missing"),
        (b"", "fog.npy is not a NumPy array"),
        (one_array(IMAGES)[:-1], "fog.npy cannot be read"),
        (pickled(), "fog.npy is not a NumPy array"),
        (array_of_objects(), "fog.npy cannot be read .*objects"),
        (several_arrays(), "fog.npy is not a NumPy array"),
        (one_array(IMAGES.astype(np.float32)), r"fog.npy is float32 \(20, 32, 32, 3\), not uint8 \(20, 32, 32, 3\)"),
        (one_array(IMAGES[1:]), r"fog.npy is uint8 \(19, 32, 32, 3\), not"),
        (one_array(IMAGES.transpose(0, 3, 1, 2)), r"fog.npy is uint8 \(20, 3, 32, 32\), not"),
    ],
)
def test_an_unusable_file_is_named_in_one_line(folder, content, message):
    (folder / "fog.npy").unlink()
    if content is not None:
        (folder / "fog.npy").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_cifar_c(folder, 10, LABELS)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(folder))


def test_of_many_missing_files_the_first_are_listed(folder):
    for name in CORRUPTIONS[2:]:
        (folder / f"{name}.npy").unlink()
    with pytest.raises(DataError) as caught:
        open_cifar_c(folder, 10)
    named = [f"{name}.npy is missing" for name in CORRUPTIONS[2:5]]
    assert str(caught.value) == f"{folder}: {'; '.join(named)} (and 14 more)"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.tile(LABELS, 5).astype(np.float64), "float64 .*not a row of integers"),
        (np.tile(LABELS, 5)[:, None], "not a row of integers"),
        (np.tile(LABELS, 5)[:-1], "19 labels, which are not those of 5 severities"),
        (LABELS[:0], "0 labels, which are not"),
        (np.tile(LABELS, 5) + 91, "labels from 91 to 100, the data set's are 0 to 9"),
        (np.tile(LABELS, 5) - 1, "labels from -1 to 8"),
        (np.r_[np.tile(LABELS, 3), LABELS[::-1], LABELS], "severity 4 are not those of severity 1"),
        (np.tile(LABELS[::-1], 5), "2 of 4 labels are not those of the test split, the first at image 1: 0, not 9"),
        (np.tile(LABELS[:2], 5), "2 labels a severity, but the test split has 4 images"),
    ],
)
def test_labels_that_are_not_the_test_split_five_times_are_refused(folder, labels, message):
    np.save(folder / "labels.npy", labels)
    with pytest.raises(DataError, match=message) as caught:
        open_cifar_c(folder, 10, LABELS)
    assert str(caught.value).startswith(str(folder / "labels.npy"))


def test_missing_labels_are_reported(folder):
    (folder / "labels.npy").unlink()
    with pytest.raises(DataError, match=r"labels\.npy is missing"):
        open_cifar_c(folder, 10)


def test_cifar_10_c_is_not_taken_for_cifar_100_c(folder):
    """All its labels are in range there, so only the test split's own labels tell."""
    with pytest.raises(DataError, match="another data set"):
        open_cifar_c(folder, 100, LABELS + 90)


def test_the_folder_is_found_by_default_by_its_path_and_by_its_parent(folder):
    data = folder.parent
    assert find_cifar_c("cifar10", data) == folder
    assert find_cifar_c("cifar10", Path("nowhere"), folder) == folder
    assert find_cifar_c("cifar10", Path("nowhere"), data) == folder
    renamed = folder.rename(data / "corrupted")
    assert find_cifar_c("cifar10", data, renamed) == renamed


def test_an_archive_that_was_not_unpacked_is_pointed_out(tmp_path):
    archive = tmp_path / "CIFAR-100-C.tar"
    archive.write_bytes(b"")
    for folder in (None, archive, tmp_path):
        with pytest.raises(DataError, match=r"CIFAR-100-C.tar: not unpacked: run `tar -xf CIFAR-100-C.tar`"):
            find_cifar_c("cifar100", tmp_path, folder)


def test_what_is_not_there_is_said_with_where_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"CIFAR-10-C: no such folder: unpack .*zenodo.org/records/2535967"):
        find_cifar_c("cifar10", tmp_path)
    with pytest.raises(DataError, match=r"has no labels\.npy, so it is not a CIFAR-100-C folder"):
        find_cifar_c("cifar100", Path("nowhere"), tmp_path)
    with pytest.raises(DataError, match="fashion_mnist: CIFAR-C is published for cifar10 and cifar100 alone"):
        find_cifar_c("fashion_mnist", tmp_path)
