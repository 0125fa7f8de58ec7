"""Claims about what the catalogue says of each data set."""

import re
from pathlib import Path

import numpy as np
import pytest

from mixmo_fast.errors import DataError
from pipelines.datasets.catalog import DATASETS, dataset_info
from pipelines.datasets.sources import read_digits, read_original

FASHION = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.parametrize("info", DATASETS.values(), ids=DATASETS.keys())
def test_entries_are_consistent(info):
    assert DATASETS[info.name] is info
    assert len(info.class_names) in (0, info.classes)
    assert info.channels == len(info.mean) == len(info.std) == 3
    assert all(0 < value < 1 for value in (*info.mean, *info.std))
    assert all(re.fullmatch("[0-9a-f]{32}", file.md5) for file in (*info.files, *info.served))
    assert info.embedded != bool(info.served)
    assert info.archive is None or info.archive == info.served[0].name


def test_checksums_are_those_that_torchvision_publishes():
    datasets = pytest.importorskip("torchvision.datasets")
    for info, published in ((DATASETS["cifar10"], datasets.CIFAR10), (DATASETS["cifar100"], datasets.CIFAR100)):
        assert (info.served[0].url, info.served[0].md5) == (published.url, published.tgz_md5)
        files = [[file.name, file.md5] for file in info.files]
        assert files == published.train_list + published.test_list
    served = [(file.name, file.md5) for file in DATASETS["fashion_mnist"].served]
    assert served == datasets.FashionMNIST.resources
    assert list(DATASETS["fashion_mnist"].class_names) == datasets.FashionMNIST.classes


def test_normalisation_of_the_published_runs():
    for name in ("cifar10", "cifar100"):
        assert DATASETS[name].mean == (0.4913725490196078, 0.4823529411764706, 0.4466666666666667)
        assert DATASETS[name].std == (0.2023, 0.1994, 0.2010)
    assert DATASETS["tinyimagenet"].mean == DATASETS["tinyimagenet"].std == (0.5, 0.5, 0.5)


def mean_and_std(images: np.ndarray) -> tuple[float, float]:
    """Of grey images scaled to 0..1; by histogram, so that nothing is lost in a long sum."""
    counts = np.bincount(images[..., 0].ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = (counts * values).sum() / counts.sum()
    return mean, np.sqrt((counts * (values - mean) ** 2).sum() / counts.sum())


def test_digits_normalisation_is_that_of_the_training_split():
    info = DATASETS["digits"]
    np.testing.assert_allclose(mean_and_std(read_digits()[0]), (info.mean[0], info.std[0]), rtol=1e-11)


@pytest.mark.skipif(not FASHION.is_dir(), reason="the real Fashion-MNIST is not on this machine")
def test_fashion_mnist_normalisation_and_checksums_are_those_of_the_real_files(tmp_path):
    info = DATASETS["fashion_mnist"]
    original = read_original(info, FASHION, tmp_path)
    assert original.verified
    np.testing.assert_allclose(mean_and_std(original.train_images), (info.mean[0], info.std[0]), rtol=1e-11)


def test_unknown_name_lists_the_known_ones_and_the_nearest():
    with pytest.raises(DataError, match=r"'cifar-10' \(did you mean cifar10\?\).*digits, fashion_mnist, cifar10"):
        dataset_info("cifar-10")
    with pytest.raises(DataError, match="did you mean fashion_mnist"):
        dataset_info("FashionMNIST")
